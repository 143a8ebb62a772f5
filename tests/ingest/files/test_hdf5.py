"""Read HDF5."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from ingest.runtime.errors import PayloadError
from tests.ingest.files.vectors import IDS, VECTORS, whole


def test_the_benchmarks_vectors_are_found_beside_their_queries(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "glove-2-angular.hdf5", "w") as file:
        file["train"] = VECTORS
        file["test"] = VECTORS[:2]
        file["neighbors"] = np.zeros((2, 100), np.int32)
        file["distances"] = np.zeros((2, 100), np.float32)
    path = tmp_path / "glove-2-angular.hdf5"
    np.testing.assert_array_equal(whole(path).vectors, VECTORS)
    assert whole(path).metadata == []
    np.testing.assert_array_equal(whole(path, vector="test").vectors, VECTORS[:2])


def test_data_sets_in_groups_are_columns(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["a/vectors"] = VECTORS.astype(np.float16)
        file.create_dataset("ids", data=IDS)
    rows = whole(tmp_path / "v.h5")
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    assert rows.ids == IDS


def test_ids_of_another_length_than_the_vectors_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["embedding"] = VECTORS
        file.create_dataset("ids", data=[*IDS, "d"])
    message = r"'ids' of shape \(4,\), but 'embedding' of shape \(3, 2\); allowed is one value for"
    with pytest.raises(PayloadError, match=message):
        whole(tmp_path / "v.h5")


def test_a_file_without_arrays_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["answer"] = 42
    with pytest.raises(PayloadError, match=r"v\.h5: holds no arrays"):
        whole(tmp_path / "v.h5")
