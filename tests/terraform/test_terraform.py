from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import plan
from ingest.runtime.settings.settings import DatabaseSettings

ROOT = Path(__file__).parents[2] / "terraform"
TESTS = sorted(path.name for path in ROOT.glob("tests/*.tftest.hcl"))
EXAMPLES = sorted(path.name for path in ROOT.glob("examples/*"))

Terraform = Callable[..., subprocess.CompletedProcess[str]]


def test_files_are_formatted(configuration: Path, terraform: Terraform) -> None:
    answer = terraform(configuration, "fmt", "-check", "-recursive", "-diff")
    assert answer.returncode == 0, answer.stdout


def test_the_root_module_is_valid(initialised: Path, terraform: Terraform) -> None:
    answer = terraform(initialised, "validate")
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_valid(example: str, configuration: Path, terraform: Terraform) -> None:
    folder = configuration / "examples" / example
    for command in (["init", "-input=false"], ["validate"]):
        answer = terraform(folder, *command)
        assert answer.returncode == 0, answer.stdout


def test_the_workspace_gets_every_series_that_the_rules_read() -> None:
    [keep] = re.findall(r"^ +regex: (.+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    rules = [path.read_text() for path in ROOT.parent.glob("rules/*.rules.yaml")]
    prefixes = r"\b(?<!:)(?:embedding_drift|process|alertmanager)_[a-z_]+\b(?!:)"
    read = {name for text in rules for name in re.findall(prefixes, text)}
    assert {"embedding_drift_up", "process_start_time_seconds"} < read
    assert [name for name in sorted(read) if not re.fullmatch(keep, name)] == []


def test_the_database_has_room_for_the_fleet_of_the_plan() -> None:
    # 100 models for the days that a vector is kept by default, and the day that is being written.
    vectors = 100 * plan.TARGET * plan.STORED_BYTES * plan.DAY
    needed = vectors * (DatabaseSettings().retention_days + 1) / 2**30
    text = (ROOT / "variables.tf").read_text()
    [variable] = re.findall(r'(?s)^variable "database_max_storage_gib" {.*?^}', text, re.MULTILINE)
    assert f"fill {needed:,.0f} GiB" in variable
    [default] = re.findall(r"default += (\d+)", variable)
    # Beside them: baselines, history, and the write-ahead log.
    assert int(default) > 1.2 * needed


@pytest.mark.parametrize("file", TESTS)
def test_terraform_test_passes(file: str, initialised: Path, terraform: Terraform) -> None:
    answer = terraform(initialised, "test", f"-filter=tests/{file}")
    assert answer.returncode == 0, answer.stdout
    assert " 0 passed" not in answer.stdout, answer.stdout
