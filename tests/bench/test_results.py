"""Measurements are kept for the documentation and read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import results

HEAD = ("dimension", "MB")
ROWS = [(384, 7.9), (1_024, 1_014)]


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "results.yaml"
    file.write_text("python -m bench.other:\n  memory:\n  - {MB: 1}\n")
    monkeypatch.setattr(results, "FILE", file)
    return file


def test_a_table_is_printed_and_kept(capsys: pytest.CaptureFixture[str]) -> None:
    results.report("mine", "memory", "Memory", HEAD, [(1, 1)], quick=False)
    results.report("mine", "memory", "Memory", HEAD, ROWS, quick=False)
    assert "1,024      1,014\n" in capsys.readouterr().out
    assert results.table("mine", "memory") == [
        {"dimension": 384, "MB": 7.9},
        {"dimension": 1_024, "MB": 1_014},
    ]
    assert results.number("mine", "memory", "MB", dimension=384) == 7.9
    assert results.number("other", "memory", "MB") == 1


def test_the_results_of_a_quick_run_are_not_kept(file: Path) -> None:
    before = file.read_text()
    results.report("mine", "memory", "Memory", HEAD, ROWS, quick=True)
    assert file.read_text() == before


def test_a_number_comes_from_exactly_one_row() -> None:
    results.report("mine", "memory", "Memory", HEAD, [*ROWS, (384, 8.0)], quick=False)
    for dimension in (384, 385):
        with pytest.raises(ValueError, match="unpack"):
            results.number("mine", "memory", "MB", dimension=dimension)
