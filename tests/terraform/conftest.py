from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.runtime.settings.settings import Settings
from rules.render import render
from tests.programs import find, missing

ROOT = Path(__file__).parents[2]

Terraform = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of terraform/, with the rendered rules beside it."""
    checkout = tmp_path_factory.mktemp("checkout")
    made_by_init = shutil.ignore_patterns(".terraform", ".terraform.lock.hcl", "*.tfstate*")
    shutil.copytree(ROOT / "terraform", checkout / "terraform", ignore=made_by_init)
    shutil.copytree(ROOT / "rules", checkout / "rules")
    render(Settings(), checkout / "rendered")
    return checkout / "terraform"


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Run Terraform offline, with providers from the mirror only."""
    executable = find("terraform")
    mirror = os.environ.get("TERRAFORM_PROVIDER_MIRROR")
    if not mirror:
        missing(
            "TERRAFORM_PROVIDER_MIRROR is not set: it names the folder that "
            "`terraform providers mirror FOLDER` wrote"
        )
    settings = tmp_path_factory.mktemp("terraform") / "terraform.rc"
    settings.write_text(
        f"provider_installation {{\n  filesystem_mirror {{ path = {json.dumps(mirror)} }}\n}}\n"
    )

    def run(folder: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [executable, *command.split(), "-no-color", *arguments],
            cwd=folder,
            env=os.environ | {"TF_CLI_CONFIG_FILE": str(settings), "TF_IN_AUTOMATION": "true"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return run


@pytest.fixture(scope="session")
def initialised(configuration: Path, terraform: Terraform) -> Path:
    """Return the copy of terraform/ after `terraform init`."""
    answer = terraform(configuration, "init", "-input=false")
    assert answer.returncode == 0, answer.stdout
    return configuration
