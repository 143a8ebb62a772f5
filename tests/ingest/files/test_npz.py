"""Read npz files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ingest.files.reader import read
from ingest.runtime.errors import PayloadError
from tests.ingest.files.vectors import VECTORS, whole


def test_the_only_matrix_needs_no_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", anything=VECTORS, n=np.arange(3))
    rows = whole(tmp_path / "v.npz")
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    assert rows.metadata == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_the_array_named_embedding_is_preferred(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", other=np.zeros((9, 9)), embedding=VECTORS)
    np.testing.assert_array_equal(whole(tmp_path / "v.npz").vectors, VECTORS)


def test_arrays_of_another_length_are_left_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", embedding=VECTORS, unrelated=np.arange(9))
    assert whole(tmp_path / "v.npz").metadata == []


WRONG: dict[str, tuple[dict[str, NDArray[Any]], str]] = {
    "two matrices": ({"a": VECTORS, "b": VECTORS}, "needs an array 'embedding' of shape"),
    "three dimensions": ({"embedding": np.ones((2, 2, 2))}, r"shape \(2, 2, 2\); allowed"),
    "words": ({"embedding": np.array([["a"]])}, "allowed are numbers"),
    "complex metadata": ({"v": VECTORS, "z": np.ones(3, complex)}, "'z' beside the vectors holds"),
    "objects": ({"v": np.array([[None]])}, "Object arrays cannot be loaded"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_an_archive_without_usable_vectors_is_refused(mistake: str, tmp_path: Path) -> None:
    arrays, message = WRONG[mistake]
    np.savez(tmp_path / "v.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(PayloadError, match=message):
        list(read(tmp_path / "v.npz"))


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.npz").write_bytes(b"nothing")
    with pytest.raises(PayloadError, match=r"v\.npz: File is not a zip file"):
        list(read(tmp_path / "v.npz"))
