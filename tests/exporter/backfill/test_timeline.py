"""The order of time: vectors are found in it whatever the order of the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exporter.backfill.dataset import Dataset
from exporter.backfill.timeline import Places, Stream
from tests.exporter.backfill.lake import START, Floats, write


def stream_of(folder: Path, times: Floats, files: int = 3) -> tuple[Dataset, Stream]:
    """A stream of vectors, each of which is its own time."""
    numbers = (times - START).astype(np.float32)[:, None]
    dataset = Dataset.open(write(folder, numbers, times, files), "m")
    return dataset, Stream.of(dataset, [dataset.survey(file) for file in dataset.files])


@pytest.mark.parametrize("jumbled", [False, True])
@pytest.mark.parametrize("files", [1, 4])
def test_a_route_reads_files_of_any_order_in_the_order_of_time(
    tmp_path: Path, jumbled: bool, files: int
) -> None:
    random = np.random.default_rng(0)
    times = START + random.integers(0, 500, 900).astype(np.float64)
    dataset, stream = stream_of(tmp_path, times if jumbled else np.sort(times), files)
    kept = np.flatnonzero(random.random(900) < 0.7)
    read = np.concatenate(list(stream.route(stream.order[kept]).vectors(dataset, 1)))
    np.testing.assert_array_equal(read[:, 0], np.sort(times)[kept] - START)


def test_a_stretch_ends_where_numbers_stop_ascending() -> None:
    groups, numbers = [0, 0, 0, 1, 1, 0, 0], [1, 2, 5, 0, 3, 6, 4]
    places = Places(np.array(groups, np.int32), np.array(numbers, np.int32))
    found = [(group, there.tolist()) for group, there in places.stretches()]
    assert found == [(0, [1, 2, 5]), (1, [0, 3]), (0, [6]), (0, [4])]
    assert places.effort == 5 + 3 + 6 + 4 + 4 * 1_024
    nothing = places.part(slice(0, 0))
    assert (list(nothing.stretches()), nothing.effort) == ([], 0)


@pytest.mark.parametrize(("jumbled", "least", "most"), [(False, 0.9, 1.1), (True, 100, 1_000)])
def test_the_effort_shows_whether_files_are_in_the_order_of_time(
    tmp_path: Path, jumbled: bool, least: float, most: float
) -> None:
    times = START + np.arange(1_000.0)
    if jumbled:
        times = np.random.default_rng(0).permutation(times)
    _, stream = stream_of(tmp_path, times)
    assert least < stream.places(stream.order).effort / stream.effort < most


def test_the_file_of_a_vector_is_found(tmp_path: Path) -> None:
    _, stream = stream_of(tmp_path, START + np.arange(30.0)[::-1])
    assert stream.file(0).endswith("002.parquet")
    assert stream.file(-1).endswith("000.parquet")
