"""The documentation says what the program says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import plan, results
from exporter.metrics.families import FAMILIES
from ingest.cli import main as ingest_main
from ingest.pipeline import metrics
from ingest.runtime.http import application
from ingest.runtime.settings.settings import keys

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    file for folder in (ROOT, ROOT / "docs", ROOT / "rules") for file in sorted(folder.glob("*.md"))
]


def test_generated_tables_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_every_metric_a_document_names_is_exported(document: Path) -> None:
    families = (*FAMILIES, *metrics.FAMILIES, *metrics.WATCH_FAMILIES, *application.FAMILIES)
    exported = {family.name for family in families}
    named = set(re.findall(r"(?<![\w:])embedding_drift_[a-z_]+", document.read_text()))
    assert named - exported - {"embedding_drift_", "embedding_drift_client"} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_every_setting_a_document_names_exists(document: Path) -> None:
    known = {key.dotted for key in keys()}
    sections = "|".join(sorted({name.split(".")[0] for name in known}))
    named = set(re.findall(rf"`((?:{sections})\.[a-z_.]+)`", document.read_text()))
    modules = {name for name in named if (ROOT / name.replace(".", "/")).is_dir()}
    assert named - modules - known == set()


def test_every_command_of_the_readme_exists() -> None:
    from exporter.cli import main

    assert main is ingest_main
    readme = (ROOT / "README.md").read_text()
    for words in re.findall(r"^\| `embedding-drift ([a-z ]+)", readme, re.MULTILINE):
        command = main
        for word in words.split():
            command = command.commands[word]  # type: ignore[attr-defined]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_links_into_the_tree_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_plan_counts_on_no_more_than_was_measured() -> None:
    [batches] = [
        row for row in results.table("ingest", "throughput") if "batches" in str(row["what"])
    ]
    assert float(str(batches["ours /s"]).replace(",", "")) >= plan.INGEST_RATE
