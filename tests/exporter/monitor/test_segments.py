"""Segments: packed once, shared by windows, cut exactly where a window begins."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from exporter.detector import Detector
from exporter.detector.sums import Part, Sums
from exporter.monitor.ring import Arrivals
from exporter.monitor.segments import Segments, Window

Vectors = NDArray[np.float32]

TIMES = np.arange(3_000.0)


def stream_of(vectors: Vectors, detector: Detector) -> Segments:
    """Return an empty stream that these vectors will be appended to."""

    def recall(first: int, last: int) -> Arrivals:
        return Arrivals.numbered(vectors[first:last], TIMES[first:last], after=first)

    return Segments(detector, recall)


def assert_holds(sums: Sums | None, expected: Sums) -> None:
    assert sums is not None
    assert (sums.n, sums.repeats) == (expected.n, expected.repeats)
    np.testing.assert_array_equal(sums.total, expected.total)
    np.testing.assert_array_equal(sums.bins, expected.bins)
    if sums.n:
        np.testing.assert_array_equal(sums.mean_waves, expected.mean_waves)


@settings(max_examples=60)
@given(
    steps=st.lists(
        # From 128 vectors on, a part has counts.
        st.tuples(
            st.integers(1, 40) | st.integers(100, 300), st.integers(0, 60), st.integers(0, 400)
        ),
        min_size=1,
        max_size=10,
    )
)
def test_windows_that_share_segments_hold_exactly_their_vectors(
    steps: list[tuple[int, int, int]], vectors: Vectors, detector: Detector
) -> None:
    segments = stream_of(vectors, detector)
    windows = [Window(segments), Window(segments)]
    for count, *lengths in steps:
        end = segments.end + count
        segments.append(vectors[segments.end : end], TIMES[segments.end : end])
        for window, length in zip(windows, lengths, strict=True):
            window.move(max(window.first, end - length), end)
            expected = detector.sums(vectors[window.first : end], TIMES[window.first : end])
            assert_holds(window.sums, expected)
        segments.forget(min(window.first for window in windows))
        for position in (end, *(window.first for window in windows)):
            segments.compact(position)


def test_a_vector_is_packed_once_when_windows_move_by_whole_parts(
    vectors: Vectors, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed: list[int] = []
    pack = Detector.pack

    def counting(self: Detector, batch: Vectors, times: NDArray[np.float64]) -> Part:
        packed.append(len(batch))
        return pack(self, batch, times)

    monkeypatch.setattr(Detector, "pack", counting)
    segments = stream_of(vectors, detector)
    windows = {40: Window(segments), 160: Window(segments)}
    for at in range(0, 1_000, 20):
        segments.append(vectors[at : at + 20], TIMES[at : at + 20])
        for length, window in windows.items():
            window.move(max(0, at + 20 - length), at + 20)
    assert sum(packed) == 1_000


def test_vectors_that_come_one_by_one_leave_one_by_one_without_being_packed_one_by_one(
    vectors: Vectors, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed: list[int] = []
    pack_each = Detector.pack_each

    def counting(self: Detector, batch: Vectors, times: NDArray[np.float64]) -> list[Part]:
        packed.append(len(batch))
        return pack_each(self, batch, times)

    segments = stream_of(vectors, detector)
    window = Window(segments)
    for at in range(96):
        segments.append(vectors[at : at + 1], TIMES[at : at + 1])
        window.move(0, at + 1)
        segments.compact(at + 1)
    monkeypatch.setattr(Detector, "pack_each", counting)
    monkeypatch.setattr(Detector, "pack", None)
    for at in range(1, 80):
        window.move(at, 96)
        assert_holds(window.sums, detector.sums(vectors[at:96], TIMES[at:96]))
    assert packed == [16] * 5


@pytest.mark.parametrize(
    ("ends", "recalled"),
    [
        ([30], [(0, 30)]),  # the shorter side
        ([170], [(170, 200)]),
        ([30, 90], [(0, 30), (30, 90)]),
        ([90, 160], [(0, 90), (160, 200)]),
        # Both sides of 110 vectors are small.
        ([90, 140], [(0, 90), (90, 140), (140, 200)]),
    ],
)
def test_only_the_shorter_side_of_a_part_is_packed_anew_unless_both_are_small(
    ends: list[int], recalled: list[tuple[int, int]], vectors: Vectors, detector: Detector
) -> None:
    asked: list[tuple[int, int]] = []

    def recall(first: int, last: int) -> Arrivals:
        asked.append((first, last))
        return Arrivals.numbered(vectors[first:last], TIMES[first:last], after=first)

    segments = Segments(detector, recall)
    segments.append(vectors[:200], TIMES[:200])
    window = Window(segments)
    window.move(0, 200)
    for end in ends:
        window.move(end, 200)
        assert_holds(window.sums, detector.sums(vectors[end:200], TIMES[end:200]))
    assert asked == recalled


def test_small_parts_are_joined_and_old_parts_forgotten(
    vectors: Vectors, detector: Detector
) -> None:
    segments = stream_of(vectors, detector)
    shorter, window = Window(segments), Window(segments)
    tracemalloc.start()
    try:
        peaks = []
        for at in range(2_000):
            segments.append(vectors[at : at + 1], TIMES[at : at + 1])
            shorter.move(max(0, at + 1 - 30), at + 1)
            window.move(max(0, at + 1 - 100), at + 1)
            segments.forget(window.first)
            for position in (at + 1, shorter.first):
                segments.compact(position)
            if at in (500, 1_999):
                peaks.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # Python keeps some freed tuples. The parts of 1,500 vectors would take more than a megabyte.
    assert peaks[1] < peaks[0] + 200_000
    parts = list(segments.parts(window.first, window.last))
    assert sum(part.n for part in parts) == 100
    # Up to 15 vectors are alone where each window begins. The others are 16 to a part.
    assert len(parts) < 45


def test_a_window_that_becomes_empty_starts_from_zero(vectors: Vectors, detector: Detector) -> None:
    segments = stream_of(vectors, detector)
    window = Window(segments)
    for at in (0, 50):
        segments.append(vectors[at : at + 50], TIMES[at : at + 50])
    window.move(0, 50)
    window.move(70, 100)
    assert_holds(window.sums, detector.sums(vectors[70:100], TIMES[70:100]))
    assert len(window) == 30


def test_without_a_detector_a_window_counts(vectors: Vectors) -> None:
    window = Window()
    window.move(0, 10)
    before = window.generation
    window.move(0, 10)
    assert window.generation == before
    window.move(4, 12)
    assert window.generation != before
    assert (len(window), window.sums) == (8, None)
