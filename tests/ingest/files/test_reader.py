"""The reader checks what every format yields."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.files.reader import read
from ingest.runtime.errors import PayloadError
from tests.ingest.files.vectors import whole


def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    allowed = "unknown suffix; allowed are .npy, .npz, .parquet, .csv, .jsonl"
    with pytest.raises(PayloadError, match=allowed):
        list(read(tmp_path / "v.txt"))


@pytest.mark.parametrize("value", ["NaN", "inf", "-inf", "1e300"])
def test_a_component_that_is_not_finite_as_float32_is_refused(value: str, tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text(f"x,y\n1,2\n3,{value}\n")
    with pytest.raises(PayloadError, match="line 3: component 1 is NaN, infinite or too large"):
        list(read(tmp_path / "v.csv"))


def test_a_vector_of_another_dimension_is_refused_within_a_block(tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").write_text('{"embedding": [1]}\n{"embedding": [1, 2]}\n')
    with pytest.raises(PayloadError, match="line 2 has 2 components, those before it 1"):
        list(read(tmp_path / "v.jsonl"))


def test_a_vector_of_another_dimension_is_refused_in_a_later_block(tmp_path: Path) -> None:
    lines = ['{"embedding": [1, 2]}'] * 2_000 + ['{"embedding": [1]}']
    (tmp_path / "v.jsonl").write_text("\n".join(lines))
    with pytest.raises(PayloadError, match="line 2001 has 1 components, those before it 2"):
        list(read(tmp_path / "v.jsonl"))


def test_a_vector_without_components_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").write_text('{"embedding": []}\n')
    with pytest.raises(PayloadError, match="line 1 has 0 components, at least one is needed"):
        list(read(tmp_path / "v.jsonl"))


def test_a_folder_is_reported_as_unreadable(tmp_path: Path) -> None:
    (tmp_path / "v.npy").mkdir()
    with pytest.raises(PayloadError, match=r"v\.npy cannot be read: Is a directory"):
        whole(tmp_path / "v.npy")
