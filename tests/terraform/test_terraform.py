from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("file", TESTS)
def test_terraform_test_passes(file: str, initialised: Path, terraform: Terraform) -> None:
    answer = terraform(initialised, "test", f"-filter=tests/{file}")
    assert answer.returncode == 0, answer.stdout
    assert " 0 passed" not in answer.stdout, answer.stdout
