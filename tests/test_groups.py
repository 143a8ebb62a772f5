"""How the processes of pytest share the tests: groups stay together, waiting tests are spread."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import HERE, pytest_collection_modifyitems

TESTS = """
import pytest

@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(8))
def test_it(number, worker_id):
    open(worker_id, "a").close()
"""


def test_the_tests_of_a_group_run_in_one_process(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").touch()
    (tmp_path / "test_group.py").write_text(TESTS)
    run = [sys.executable, "-m", "pytest", "-p", "no:schemathesis"]
    run += ["--numprocesses", "2", "--dist", "loadgroup"]
    subprocess.run(run, cwd=tmp_path, capture_output=True, check=True)
    assert len(list(tmp_path.glob("gw*"))) == 1


class Item(NamedTuple):
    """A test as far as the order of tests reads it."""

    path: Path
    number: int


def items() -> list[Item]:
    computing, whole = HERE / "ingest" / "test_many.py", HERE / "test_one.py"
    return [Item(computing, n) for n in range(8)] + [Item(whole, n) for n in range(4)]


def test_tests_of_the_whole_are_spread_over_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    tests = items()
    pytest_collection_modifyitems(tests)  # type: ignore[arg-type]
    places = [at for at, item in enumerate(tests) if item.path == HERE / "test_one.py"]
    assert places == [1, 4, 7, 10]
    # Each file stays in its order.
    assert sorted(tests) == sorted(items())
    assert [item.number for item in tests if item.path.parent == HERE] == [*range(4)]
    assert [item.number for item in tests if item.path.parent != HERE] == [*range(8)]


def test_a_single_process_runs_the_tests_in_the_order_of_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    tests = items()
    pytest_collection_modifyitems(tests)  # type: ignore[arg-type]
    assert tests == items()
