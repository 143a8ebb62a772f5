"""The documentation says what the program does, and its commands run as shown."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bench import plan, results
from exporter.cli import PORT, main
from exporter.metrics.families import FAMILIES
from ingest.pipeline import metrics
from ingest.runtime.http import application
from ingest.runtime.settings.settings import keys
from tests.service import Service, serving, wait_for, window

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
DOCUMENTS = [
    file
    for folder in (ROOT, *(ROOT / name for name in ("client", "docs", "k8s", "rules", "terraform")))
    for file in sorted(folder.glob("*.md"))
]
FIRST_VALUE = "First value in two minutes"


def name(document: Path) -> str:
    return str(document.relative_to(ROOT))


def test_generated_tables_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_metric_a_document_names_is_exported(document: Path) -> None:
    families = (*FAMILIES, *metrics.FAMILIES, *metrics.WATCH_FAMILIES, *application.FAMILIES)
    exported = {family.name for family in families}
    named = set(re.findall(r"(?<![\w:])embedding_drift_[a-z_]+", document.read_text()))
    assert named - exported - {"embedding_drift_", "embedding_drift_client"} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_setting_a_document_names_exists(document: Path) -> None:
    known = {key.dotted for key in keys()}
    sections = "|".join(sorted({dotted.split(".")[0] for dotted in known}))
    named = set(re.findall(rf"`((?:{sections})\.[a-z_.]+)`", document.read_text()))
    modules = {found for found in named if (ROOT / found.replace(".", "/")).is_dir()}
    assert named - modules - known == set()


def commands(text: str) -> set[str]:
    """Find what a document calls: `embedding-drift WORDS`, in prose, tables and shell blocks."""
    return set(re.findall(r"(?:`|/bin/|^)embedding-drift ((?:[a-z]+ ?)+)", text, re.MULTILINE))


def find(words: list[str]) -> click.Command | None:
    """Find the command that these words call; what follows a command is its argument."""
    command: click.Command = main
    for word in words:
        if not isinstance(command, click.Group):
            break
        if word not in command.commands:
            return None
        command = command.commands[word]
    return command


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_command_a_document_names_exists(document: Path) -> None:
    named = commands(document.read_text())
    assert {words for words in named if find(words.split()) is None} == set()


def options(group: click.Group, words: str = "") -> Iterator[tuple[str, click.Option]]:
    """Yield each option of each command, with the words that call the command."""
    for command_name, command in group.commands.items():
        called = f"{words} {command_name}".strip()
        if isinstance(command, click.Group):
            yield from options(command, called)
        for option in command.params:
            if isinstance(option, click.Option):
                yield called, option


def test_every_option_of_every_command_has_a_help_text() -> None:
    found = list(options(main))
    assert len(found) > 20
    assert [f"{called} {option.opts[0]}" for called, option in found if not option.help] == []


def test_commands_are_found_in_the_documents() -> None:
    """Guards the test above: a pattern that matches nothing would pass it."""
    assert {"replay ", "watch"} <= commands(README.read_text())
    assert {"serve", "baseline pin "} <= commands((ROOT / "docs" / "commands.md").read_text())
    assert find(["baseline", "pim"]) is None


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_into_the_tree_lead_to_a_file_and_a_heading(document: Path) -> None:
    for target, fragment in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", document.read_text()):
        file = document.parent / target if target else document
        assert file.exists(), f"{name(document)} links to {target}"
        if fragment and file.suffix == ".md":
            assert fragment in anchors(file), f"{name(document)} links to {target}#{fragment}"


def test_what_is_installed_names_no_page_that_is_not_installed() -> None:
    """Neither a wheel nor the image has the folder docs."""
    packages = ("alertmanager", "client/embedding_drift_client", "exporter", "ingest", "rules")
    installed = [file for package in packages for file in (ROOT / package).rglob("*.*")]
    assert {".py", ".md", ".html", ".yaml"} <= {file.suffix for file in installed}
    texts = {file: file.read_bytes() for file in installed if file.suffix != ".pyc"}
    assert [name(file) for file, text in texts.items() if re.search(rb"\bdocs/\w+\.md", text)] == []


def anchors(document: Path) -> set[str]:
    """Return the anchors of the headings, as the forge makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}


def test_links_are_found_in_the_documents() -> None:
    """Guards the test above: a pattern that matches nothing would pass it."""
    assert "(docs/api.md#post-embeddings)" in README.read_text()
    assert "post-embeddings" in anchors(ROOT / "docs" / "api.md")


def test_the_readme_links_to_every_page() -> None:
    linked = set(re.findall(r"\]\((docs/[a-z]+\.md)", README.read_text()))
    assert linked == {name(page) for page in (ROOT / "docs").glob("*.md")}


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 150


def section(document: Path, heading: str) -> str:
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", document.read_text(), re.M | re.S)
    assert found, f"{name(document)} has no section {heading!r}"
    return found[1]


def shell_blocks(text: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def first_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make run` starts a service: embedded database, defaults; only the port is free."""
    folder = tmp_path_factory.mktemp("first")
    config = folder / "config.yaml"
    config.write_text(f"database: {{data_directory: {folder / 'data'}}}\nserver: {{port: 0}}\n")
    return config


@pytest.fixture(scope="module")
def first_service(first_config: Path) -> Iterator[Service]:
    with serving(first_config) as service:
        yield service


def test_the_first_value_of_the_readme_works_when_it_is_pasted(
    first_service: Service, first_config: Path
) -> None:
    program = f"{shlex.quote(sys.executable)} -m exporter"

    def paste(block: str) -> str:
        here = block.replace(".venv/bin/embedding-drift", program)
        here = here.replace("replay", f"replay --url {first_service.url}")
        here = here.replace("model remove", f"model remove --config {first_config}")
        here = here.replace(f"http://127.0.0.1:{PORT}", first_service.url)
        shell = ["bash", "-e", "-o", "pipefail", "-c", here]
        done = subprocess.run(shell, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    send, look, send_own, remove = shell_blocks(section(README, FIRST_VALUE))
    assert paste(send) == "packages: 6000 vectors stored, 0 duplicates; 0 rows skipped\n"
    # A window is measured before it has all of them.
    wait_for(lambda: window(first_service.url, "packages").get("vectors") == 1000, "the others")
    fast, slow, report = paste(look).splitlines()
    assert (
        float(fast.removeprefix('embedding_drift_score{model_name="packages",window="fast"} ')) < 2
    )
    assert (
        float(slow.removeprefix('embedding_drift_score{model_name="packages",window="slow"} ')) < 2
    )
    told = json.loads(report)
    assert told["baseline"]["vectors"] == 5000
    assert told["windows"]["fast"]["vectors"] == 1000
    answers = paste(send_own)
    assert answers.startswith('{"model_name":"my-model","stored":1,')
    assert answers.count('"state":"no_baseline"') == 2
    paste(remove)
    assert "packages" not in paste(f"{program} model list --config {first_config}")


def test_make_run_serves_what_the_readme_says() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^run:.*\n\t@exec \$\(BIN\)/embedding-drift serve$", makefile, re.MULTILINE)
    assert f"make run     # serves everything on http://127.0.0.1:{PORT}" in README.read_text()


def test_make_screenshots_writes_every_picture_of_the_readme() -> None:
    makefile = (ROOT / "Makefile").read_text()
    [recipe] = re.findall(r"^screenshots:.*\n\t(.*)$", makefile, re.MULTILINE)
    shown = re.findall(r"^!\[.*\]\((\S+)\)$", README.read_text(), re.MULTILINE)
    assert shown == re.findall(r"\S+\.png", recipe)
    assert {ROOT / picture for picture in shown} == set((ROOT / "docs").glob("*.png"))


def paths(document: Path) -> set[str]:
    """Find the files and folders that a document names in backticks."""
    named = re.findall(r"`([\w.-]+(?:/[\w.-]+)*/?)`", document.read_text())
    return {path for path in named if "/" in path}


def test_every_path_of_the_architecture_exists() -> None:
    named = paths(ARCHITECTURE)
    assert len(named) > 30
    assert {path for path in named if not (ROOT / path).exists()} == set()
    assert {path for path in named if path.endswith("/") != (ROOT / path).is_dir()} == set()


def test_the_architecture_has_a_row_for_every_package() -> None:
    packages = {
        f"{file.parent.relative_to(ROOT)}/"
        for top in ("exporter", "ingest")
        for file in (ROOT / top).glob("*/__init__.py")
    }
    assert len(packages) > 10
    assert packages - paths(ARCHITECTURE) == set()


def test_the_plan_counts_on_no_more_than_was_measured() -> None:
    [batches] = [
        row for row in results.table("ingest", "throughput") if "batches" in str(row["what"])
    ]
    assert float(str(batches["ours /s"]).replace(",", "")) >= plan.INGEST_RATE


def test_what_can_fail_without_a_sound_names_real_alerts_and_tests() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    table = page.partition("## What can fail without a sound")[2].partition("\n## ")[0]
    alerts = set(re.findall(r"\bEmbeddingDrift\w+", table))
    rules = "".join(file.read_text() for file in (ROOT / "rules").glob("*.rules.yaml"))
    assert len(alerts) > 10
    assert alerts - set(re.findall(r"alert: (\w+)", rules)) == set()
    tests = set(re.findall(r"`(tests/[^`]+)`", table))
    assert len(tests) > 10
    assert {test for test in tests if not (ROOT / test).is_file()} == set()
