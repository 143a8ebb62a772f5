"""Sort on disk: vectors are read in the order of time, and the folder is removed."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.backfill import sorting
from exporter.backfill.sorting import Scratch, slots_of
from exporter.backfill.timeline import Places
from exporter.stats.arrays import Vectors
from ingest.runtime.errors import ClusterFailed


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 999), groups=st.integers(1, 4), batch=st.integers(1, 70))
def test_vectors_written_in_any_order_are_read_in_the_order_of_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, groups: int, batch: int
) -> None:
    # Small, so that both limits are reached often.
    monkeypatch.setattr(sorting, "_SORTED", 64)
    monkeypatch.setattr(sorting, "_READ", 50)
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(500, 3)).astype(np.float32)
    places = Places(random.integers(0, groups, 500).astype(np.int32), np.empty(500, np.int32))
    with Scratch.open(str(tmp_path), 3) as there:
        for group in range(groups):
            # Positions in time, in the order of the file.
            held = random.permutation(np.flatnonzero(places.groups == group))
            places.numbers[held] = slots_of(held)
            batches = (vectors[held[at : at + batch]] for at in range(0, len(held), batch))
            there.write(group, slots_of(held), batches)
        read = np.concatenate(list(there.read(places)))
        np.testing.assert_array_equal(read, vectors)
        some = np.concatenate(list(there.read(places.part(slice(130, 333)))))
        np.testing.assert_array_equal(some, vectors[130:333])
    assert list(tmp_path.iterdir()) == []


def batches(count: int) -> Iterator[Vectors]:
    for _ in range(0, count, 1_000):
        yield np.ones((1_000, 64), np.float32)


def peak_bytes(folder: Path, count: int) -> int:
    there = slots_of(np.random.default_rng(0).permutation(count))
    tracemalloc.start()
    try:
        with Scratch.open(str(folder), 64) as kept:
            kept.write(0, there, batches(count))
            for _ in kept.read(Places(np.zeros(count, np.int32), there)):
                pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_vectors(tmp_path: Path) -> None:
    assert peak_bytes(tmp_path, 200_000) < 1.2 * peak_bytes(tmp_path, 50_000)


def test_every_file_system_of_fsspec_can_hold_the_scratch() -> None:
    with Scratch.open("memory://scratch", 2) as there:
        there.write(3, np.array([1, 0], np.int32), iter([np.array([[1, 2], [3, 4]], np.float32)]))
        [read] = there.read(Places(np.array([3, 3], np.int32), np.array([0, 1], np.int32)))
        np.testing.assert_array_equal(read, [[3, 4], [1, 2]])
    assert fsspec.filesystem("memory").find("/scratch") == []


def test_a_folder_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = r"^scratch .*file cannot be used: \[Errno 20\] Not a directory"
    with pytest.raises(ClusterFailed, match=message), Scratch.open(str(tmp_path / "file"), 2):
        pass
    with (
        pytest.raises(ClusterFailed, match=r"^scratch nowhere://host/x cannot be used: Protocol"),
        Scratch.open("nowhere://me:pw@host/x", 2),
    ):
        pass
    # The folder is removed while it is in use.
    with Scratch.open(str(tmp_path), 2) as there:
        there.filesystem.rm(there.folder, recursive=True)
        with pytest.raises(ClusterFailed, match=r"^scratch .* cannot be used: .*No such file"):
            there.write(0, np.zeros(1, np.int32), iter([np.ones((1, 2), np.float32)]))
        with pytest.raises(ClusterFailed, match=r"^scratch .* cannot be used: .*No such file"):
            list(there.read(Places(np.zeros(1, np.int32), np.zeros(1, np.int32))))
        there.filesystem.mkdir(there.folder)
