"""Read npy and npz files."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from ingest.runtime.errors import PayloadError
from tests.ingest.files.vectors import IDS, VECTORS, whole


@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8", ">f4", "i1", "u1", "i8"])
def test_numbers_of_any_type_are_vectors(kind: str, tmp_path: Path) -> None:
    vectors = np.arange(6).reshape(3, 2).astype(kind)
    np.save(tmp_path / "v.npy", vectors)
    np.testing.assert_array_equal(whole(tmp_path / "v.npy").vectors, vectors)


def test_an_array_in_the_order_of_fortran_is_read_by_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.asfortranarray(np.tile(VECTORS, (1_000, 1))))
    np.testing.assert_array_equal(whole(tmp_path / "v.npy").vectors, np.tile(VECTORS, (1_000, 1)))


def test_the_fields_of_records_are_columns(tmp_path: Path) -> None:
    records = np.array([(7, [1, 2.5])], [("id", "i4"), ("vec", "f4", (2,))])
    np.save(tmp_path / "v.npy", records)
    rows = whole(tmp_path / "v.npy")
    assert (rows.ids, rows.vectors.tolist()) == (["7"], [[1, 2.5]])


def test_arrays_beside_the_vectors_are_their_columns(tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "ids": np.array(IDS),
        "timestamp": np.array(["2026-01-01T00:00:00"] * 3, "M8[ns]"),
        "n": np.arange(3),
        "unrelated": np.arange(9),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "v.npz", embeddings=VECTORS, **columns)
        rows = whole(tmp_path / "v.npz")
        np.testing.assert_array_equal(rows.vectors, VECTORS)
        assert rows.ids == IDS
        assert rows.times == [1_767_225_600.0] * 3
        assert rows.metadata == [{"n": 0}, {"n": 1}, {"n": 2}]


@pytest.mark.parametrize("shape", [(4,), (2,), (0,)])
@pytest.mark.parametrize("name", ["ids", "timestamp", "model_name", "text", "other"])
def test_an_array_that_is_chosen_must_be_as_long_as_the_vectors(
    name: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    np.savez(tmp_path / "v.npz", embedding=VECTORS, **{name: np.ones(shape)})  # type: ignore[arg-type]
    options = {"time": "other"} if name == "other" else {}
    message = f"v.npz: has the array '{name}' of shape {shape}, but 'embedding' of shape (3, 2);"
    with pytest.raises(PayloadError, match=re.escape(message)):
        whole(tmp_path / "v.npz", **options)


def test_a_single_number_or_text_describes_the_file_and_is_no_column(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", embedding=VECTORS, text=np.array("of May"), id=np.array(7))
    rows = whole(tmp_path / "v.npz")
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    assert (rows.ids, rows.metadata) == ([], [])


def test_components_in_arrays_of_their_own_must_be_equally_many(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", dim_0=np.ones(3), dim_1=np.ones(4))
    with pytest.raises(PayloadError, match=r"array 'dim_1' of shape \(4,\), but 'dim_0' of shape"):
        whole(tmp_path / "v.npz")


def test_the_only_matrix_needs_no_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", VECTORS)
    np.testing.assert_array_equal(whole(tmp_path / "v.npz").vectors, VECTORS)


WRONG: dict[str, tuple[dict[str, NDArray[Any]], str]] = {
    "two matrices": ({"a": VECTORS, "b": VECTORS}, "has 2 columns of vectors: a, b; choose one"),
    "three dimensions": (
        {"v": np.ones((2, 2, 2))},
        "has no column of vectors; its columns",
    ),
    "objects": ({"v": np.array([[1], [1, 2]], object)}, "'v' holds Python objects, which are"),
    "ids as objects": (
        {"embeddings": VECTORS, "ids": np.array(IDS, object)},
        "'ids' holds Python objects, which are pickled and never loaded; write",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_an_archive_without_usable_vectors_is_refused(mistake: str, tmp_path: Path) -> None:
    arrays, message = WRONG[mistake]
    np.savez(tmp_path / "v.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(PayloadError, match=message):
        whole(tmp_path / "v.npz")


@pytest.mark.parametrize("order", ["C", "F"])
def test_what_comes_after_an_array_is_not_lost_in_silence(
    order: Literal["C", "F"], tmp_path: Path
) -> None:
    with (tmp_path / "v.npy").open("wb") as file:
        for _ in range(2):
            np.save(file, np.asarray(VECTORS, order=order))
    with pytest.raises(PayloadError, match="has more after its first array; save each array"):
        whole(tmp_path / "v.npy")


def test_an_array_of_objects_that_is_dropped_does_no_harm(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", embeddings=VECTORS, words=np.array(IDS, object))
    np.testing.assert_array_equal(whole(tmp_path / "v.npz", drop=("words",)).vectors, VECTORS)


def test_vectors_without_components_are_bad_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.empty((2, 0), np.float32))
    assert whole(tmp_path / "v.npy").faults == [f"row {n} has an empty vector" for n in range(2)]


@pytest.mark.parametrize("suffix", [".npz", ".zip", ".csv"])
def test_an_archive_of_other_files_is_refused_with_their_names(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"v{suffix}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "id,0,1\n")
    with pytest.raises(PayloadError, match=r"is an archive that holds a\.csv; allowed are arrays"):
        whole(path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(3), r"holds float64 of shape \(3,\); allowed are numbers of shape"),
        (np.array([["a"]]), "holds <U1 of shape"),
        (np.array([np.ones(2), np.ones(3)], object), "Python objects, which are pickled and never"),
    ],
)
def test_an_array_of_anything_else_is_refused(
    array: NDArray[Any], message: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "v.npy", array)
    with pytest.raises(PayloadError, match=message):
        whole(tmp_path / "v.npy")
