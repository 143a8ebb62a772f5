"""Scripts leave a tool in the cache as a whole or not at all, and hide no error of an archive."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / ".ci"

GO = """#!/bin/sh
[ "$1" != build ] && exit
while [ "$1" != -o ]; do shift; done
if [ -d "$2" ]; then set -- -o "$2/prometheus" "$2/promtool"; fi
shift
for program; do
    case "$program" in */*.*/*) continue ;; esac
    [ "$program" = . ] || { echo tool >"$program"; chmod +x "$program"; }
done
"""
MVN = """#!/bin/sh
for argument; do
    case "$argument" in -DoutputDirectory=*) folder=${argument#*=} ;; esac
done
mkdir -p "$folder"
touch "$folder/kafka.jar"
"""
FAILS = "#!/bin/sh\nexit 1\n"


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)


def run(script: str, cache: Path, programs: Path) -> subprocess.CompletedProcess[str]:
    """Run a script whose temporary folder has no room."""
    given = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "TMPDIR": str(cache / "none"),
        "XDG_CACHE_HOME": str(cache),
    }
    return subprocess.run(
        [SCRIPTS / script], env=os.environ | given, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("script", "kept"),
    [
        ("collector", "otelcol-*"),
        ("kafka", "kafka-*/kafka.jar"),
        ("prometheus", "prometheus-*/promtool"),
    ],
)
def test_a_tool_is_made_beside_its_place_in_the_cache_and_renamed(
    tmp_path: Path, script: str, kept: str
) -> None:
    programs, cache = tmp_path / "programs", tmp_path / "cache"
    programs.mkdir()
    for name, text in {"go": GO, "mvn": MVN, "java": GO}.items():
        program(programs, name, text)
    answer = run(script, cache, programs)
    assert answer.returncode == 0, answer.stderr
    [tool] = (cache / "embedding-drift").glob(kept)
    [found] = (cache / "embedding-drift").iterdir()
    assert found in (tool, tool.parent)


@pytest.mark.parametrize("script", ["collector", "kafka", "prometheus"])
def test_nothing_is_in_the_cache_after_a_failure(tmp_path: Path, script: str) -> None:
    for name in ("go", "mvn", "java"):
        program(tmp_path, name, FAILS)
    assert run(script, tmp_path / "cache", tmp_path).returncode == 1
    assert list((tmp_path / "cache" / "embedding-drift").iterdir()) == []


def test_nothing_is_moved_into_the_cache_from_another_file_system() -> None:
    filling = {
        file.name: text
        for file in sorted(SCRIPTS.iterdir())
        if ".cache" in (text := file.read_text()) and re.search(r"^ *mv ", text, re.MULTILINE)
    }
    assert {"collector", "kafka", "kubernetes", "newest", "node", "prometheus"} == set(filling)
    for name, text in filling.items():
        assert re.findall(r"mktemp -d(?! \"\$(?:cache|\{\w+%/\*\})/)", text) == [], name
        assert not re.search(r"^ *cp .*\"\$(?!work\b)\w+\"$", text, re.MULTILINE), name


def test_an_archive_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    program(tmp_path, "tar", "#!/bin/sh\necho part\nexit 2\n")
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    answer = subprocess.run([SCRIPTS / "chart", tmp_path / "dist"], env=environment)
    assert answer.returncode == 2


def test_no_script_hides_the_error_of_what_writes_an_archive() -> None:
    # The status of a pipe is that of its last program.
    for file in (*SCRIPTS.iterdir(), ROOT / "Makefile"):
        text = file.read_text().replace("\\\n", " ")
        piped = r"^.*(?:\bARCHIVE\)|\btar\b.*-create|\bdpkg-deb\b).*[^|]\|[^|].*$"
        assert re.findall(piped, text, re.MULTILINE) == [], file.name
