"""Cached windows: always equal to a recount of the vectors they should hold."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from exporter.detector.detector import Detector
from exporter.monitor import windows as windows_module
from exporter.monitor.segments import Window
from exporter.monitor.windows import ModelWindows, Ring
from ingest.runtime.settings.settings import (
    BaselineSettings,
    MonitoringSettings,
    WindowSettings,
    WindowsSettings,
)

Vectors = NDArray[np.float32]

SETTINGS = MonitoringSettings(
    windows=WindowsSettings(
        fast=WindowSettings(seconds=10, min_vectors=2, max_vectors=30),
        slow=WindowSettings(seconds=100, min_vectors=2, max_vectors=250),
    ),
)
"""The detector's 1,000 vectors allow windows of 200, the first baseline's 5,000 more."""


def held(windows: ModelWindows, window: Window) -> Vectors:
    """The vectors a window holds."""
    assert window.last == windows.ring.end
    return windows.ring.recall(window.first, window.last)[0]


def assert_sums_equal_a_recount(detector: Detector, window: Window, vectors: Vectors) -> None:
    assert window.sums is not None
    assert window.sums.n == len(vectors)
    if len(vectors) >= 2:
        recount = detector.sums(vectors)
        assert detector.score(window.sums) == pytest.approx(detector.score(recount), abs=1e-6)
        marginals, expected = detector.marginals(window.sums), detector.marginals(recount)
        np.testing.assert_allclose(marginals.ks, expected.ks, atol=1e-12)
        np.testing.assert_allclose(marginals.wasserstein, expected.wasserstein, atol=1e-9)


steps = st.lists(
    st.tuples(st.integers(0, 80), st.floats(0, 60), st.booleans()), min_size=1, max_size=12
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=steps, measured=st.booleans())
def test_windows_equal_a_recount_whatever_enters_and_leaves(
    steps: list[tuple[int, float, bool]], measured: bool, vectors: Vectors, detector: Detector
) -> None:
    windows = ModelWindows(8, SETTINGS, detector if measured else None)
    most = {"fast": 30, "slow": 200 if measured else 250}
    end, now, times = 0, 1e9, np.empty(0)
    for number, (count, pause, advances) in enumerate(steps):
        now += pause
        times = np.concatenate((times, np.full(count, now)))
        windows.append(vectors[end : end + count], times[end:])
        end += count
        if advances or number == len(steps) - 1:
            windows.advance(now)
            for name, window in windows.windows.items():
                young = times > now - windows.limits[name].settings.seconds
                expected = vectors[:end][young][-most[name] :]
                np.testing.assert_array_equal(held(windows, window), expected)
                if measured:
                    assert_sums_equal_a_recount(detector, window, expected)
                    np.testing.assert_array_equal(windows.vectors(name), expected)


def test_a_batch_longer_than_the_ring_leaves_its_newest(vectors: Vectors) -> None:
    windows = ModelWindows(8, SETTINGS)
    windows.append(vectors[:1_000], np.full(1_000, 1e9))
    np.testing.assert_array_equal(held(windows, windows.windows["slow"]), vectors[750:1_000])
    np.testing.assert_array_equal(held(windows, windows.windows["fast"]), vectors[970:1_000])


def test_a_ring_keeps_order_across_its_end(vectors: Vectors) -> None:
    ring = Ring(8, 10)
    for at in range(0, 25, 5):
        ring.append(
            vectors[at : at + 5],
            np.arange(at, at + 5, dtype=np.float64),
            np.arange(at, at + 5, dtype=np.float32),
        )
    np.testing.assert_array_equal(ring.recall(15, 25)[0], vectors[15:25])
    assert (ring.start, ring.end) == (15, 25)
    assert ring.after(20.0) == 21
    assert [ring.time(p) for p in (15, 24)] == [15.0, 24.0]
    assert ring.cosines(15, 25).tolist() == list(range(15, 25))


def test_a_window_never_exceeds_what_the_baseline_calibrates(
    vectors: Vectors, detector: Detector
) -> None:
    windows = ModelWindows(8, MonitoringSettings(), detector)
    windows.append(vectors[:600], np.full(600, 1e9))
    assert len(windows.windows["fast"]) == detector.n_reference // 5 == 200


@pytest.mark.parametrize(("first", "slow"), [(250, 50), (1_000, 200), (5_000, 250)])
def test_without_a_baseline_windows_are_as_large_as_the_first_will_allow(
    vectors: Vectors, first: int, slow: int
) -> None:
    settings = SETTINGS.model_copy(update={"baseline": BaselineSettings(vectors=first)})
    windows = ModelWindows(8, settings)
    windows.append(vectors[:600], np.full(600, 1e9))
    assert {name: len(window) for name, window in windows.windows.items()} == {
        "fast": 30,
        "slow": slow,
    }


@pytest.mark.parametrize("measured", [False, True])
def test_no_more_is_kept_than_the_larger_window_holds(
    vectors: Vectors, detector: Detector, measured: bool
) -> None:
    windows = ModelWindows(8, SETTINGS, detector if measured else None)
    largest = 200 if measured else 250
    tracemalloc.start()
    for at in range(0, 3_000, 100):
        windows.append(vectors[at : at + 100], np.full(100, 1e9))
    kept = sum(
        trace.size
        for trace in tracemalloc.take_snapshot().traces
        if trace.traceback[0].filename == windows_module.__file__
    )
    tracemalloc.stop()
    assert windows.ring.end - windows.ring.start == largest
    assert kept < 1.2 * largest * (8 * 4 + 8 + 4)


def test_a_window_changes_its_generation_only_when_it_changes(
    vectors: Vectors, detector: Detector
) -> None:
    windows = ModelWindows(8, SETTINGS)
    windows.append(vectors[:5], np.full(5, 1e9))
    window = windows.windows["fast"]
    seen = window.generation
    windows.advance(1e9 + 1)
    assert window.generation == seen
    windows.advance(1e9 + 11)
    assert window.generation != seen
    assert len(window) == 0


def test_the_start_of_a_window_is_when_its_oldest_vector_was_stored(vectors: Vectors) -> None:
    windows = ModelWindows(8, SETTINGS)
    assert windows.start("fast") is None
    windows.append(vectors[:3], np.array([1e9, 1e9 + 1, 1e9 + 6]))
    assert windows.start("fast") == 1e9
    windows.advance(1e9 + 10.5)
    assert windows.start("fast") == 1e9 + 1


def test_a_window_is_judged_by_the_season_over_its_vectors() -> None:
    """Over a day, the mean of a daily wave is 0; over three hours it is nearly what it is now."""
    random = np.random.default_rng(0)
    day = 86_400.0

    def stream(times: NDArray[np.float64]) -> Vectors:
        wave = 2 * np.sin(2 * np.pi * times / day) + np.sin(4 * np.pi * times / day)
        vectors = random.standard_normal((len(times), 8))
        vectors[:, 0] += wave
        return vectors.astype(np.float32)

    fitted = np.sort(random.uniform(0, 8 * day, 5_000))
    detector = Detector.fit(stream(fitted), timestamps=fitted)
    assert detector.seasonal
    settings = MonitoringSettings(
        windows=WindowsSettings(
            fast=WindowSettings(seconds=10_800), slow=WindowSettings(seconds=86_400)
        )
    )
    windows = ModelWindows(8, settings, detector)
    times = np.arange(8 * day, 12 * day, 120.0)
    vectors = stream(times)
    scores: dict[str, list[float]] = {"fast": [], "slow": []}
    for at in range(0, len(times), 30):
        windows.append(vectors[at : at + 30], times[at : at + 30])
        windows.advance(times[at : at + 30][-1])
        for name, window in windows.windows.items():
            assert window.sums is not None
            if times[at] > 9 * day:
                scores[name].append(detector.score(window.sums))
    assert {name: len(window) for name, window in windows.windows.items()} == {
        "fast": 90,
        "slow": 720,
    }
    assert np.median(scores["fast"]) < 1
    assert np.median(scores["slow"]) < 1


def test_revisions_enter_and_leave_a_window_with_their_vectors(vectors: Vectors) -> None:
    windows = ModelWindows(8, SETTINGS)
    cosines = np.array([0.5, np.nan, 0.75], np.float32)
    windows.append(vectors[:3], np.array([1e9, 1e9 + 1, 1e9 + 6]), cosines)
    assert windows.revised_cosines("fast").tolist() == [0.5, 0.75]
    windows.advance(1e9 + 10.5)
    assert windows.revised_cosines("fast").tolist() == [0.75]
    windows.append(vectors[3:5], np.array([1e9 + 11, 1e9 + 12]))
    assert windows.revised_cosines("slow").tolist() == [0.5, 0.75]
