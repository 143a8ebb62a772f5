"""Read npy files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ingest.files.reader import read
from ingest.runtime.errors import PayloadError
from tests.ingest.files.vectors import VECTORS, whole


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.int8, np.uint16])
def test_vectors_of_any_kind_of_number_are_read(kind: type, tmp_path: Path) -> None:
    vectors = np.abs(VECTORS).astype(kind)
    np.save(tmp_path / "v.npy", vectors)
    np.testing.assert_array_equal(whole(tmp_path / "v.npy").vectors, vectors.astype(np.float32))


def test_vectors_have_neither_ids_nor_metadata(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", VECTORS)
    [rows] = read(tmp_path / "v.npy")
    assert (rows.ids, rows.metadata) == ((), ())


def test_columns_in_the_order_of_fortran_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.asfortranarray(VECTORS))
    np.testing.assert_array_equal(whole(tmp_path / "v.npy").vectors, VECTORS)


WRONG = {
    "one dimension": (np.ones(3), r"holds float64 of shape \(3,\); allowed are numbers"),
    "three dimensions": (np.ones((2, 2, 2)), r"holds float64 of shape \(2, 2, 2\)"),
    "words": (np.array([["a"]]), r"holds <U1 of shape \(1, 1\)"),
    "complex": (np.ones((2, 2), complex), "holds complex128"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_an_array_that_is_not_vectors_is_refused(mistake: str, tmp_path: Path) -> None:
    array, message = WRONG[mistake]
    np.save(tmp_path / "v.npy", array)
    with pytest.raises(PayloadError, match=message):
        list(read(tmp_path / "v.npy"))


@pytest.mark.parametrize("content", [b"nothing", b"PK\3\4" + bytes(40)])
def test_a_file_of_another_format_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "v.npy").write_bytes(content)
    with pytest.raises(PayloadError, match=r"v\.npy: .*magic string"):
        list(read(tmp_path / "v.npy"))


def test_a_header_with_an_absurd_shape_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "v.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**30, 2)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(PayloadError, match=r"v\.npy: "):
        list(read(tmp_path / "v.npy"))
