"""Cached windows: always equal to a recount of the vectors they should hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from exporter.score import Detector
from exporter.windows import ModelWindows, Ring, Window
from ingest.runtime.settings import WindowSettings, WindowsSettings

Vectors = NDArray[np.float32]

LIMITS = WindowsSettings(
    fast=WindowSettings(seconds=10, min_vectors=2, max_vectors=30),
    slow=WindowSettings(seconds=100, min_vectors=2, max_vectors=150),
)


def held(windows: ModelWindows, window: Window) -> Vectors:
    """The vectors a window holds."""
    chunks = list(windows.ring.chunks(window.start, windows.ring.end))
    return np.concatenate(chunks) if chunks else np.empty((0, 8), np.float32)


def should_hold(
    vectors: Vectors, times: NDArray[np.float64], now: float, limits: WindowSettings, most: int
) -> Vectors:
    """The newest vectors within time and number, found by looking at all of them."""
    return vectors[times > now - limits.seconds][-min(limits.max_vectors, most) :]


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
@given(steps=steps, adopt_at=st.integers(0, 11))
def test_windows_equal_a_recount_whatever_enters_and_leaves(
    steps: list[tuple[int, float, bool]], adopt_at: int, vectors: Vectors, detector: Detector
) -> None:
    windows = ModelWindows(8, LIMITS)
    end, now, times = 0, 1e9, np.empty(0)
    most = 10**9
    for number, (count, pause, advances) in enumerate(steps):
        now += pause
        times = np.concatenate((times, np.full(count, now)))
        windows.append(vectors[end : end + count], times[end:])
        end += count
        if number == adopt_at:
            windows.advance(now)
            windows.rebase(detector, now, 10**9)
            most = detector.n_reference // 5
        if advances or number == len(steps) - 1:
            windows.advance(now)
            for name, window in windows.windows.items():
                limits = getattr(LIMITS, name)
                expected = should_hold(vectors[:end], times, now, limits, most)
                np.testing.assert_array_equal(held(windows, window), expected)
                if most < 10**9:
                    assert_sums_equal_a_recount(detector, window, expected)


def test_a_batch_longer_than_the_ring_leaves_its_newest(vectors: Vectors) -> None:
    windows = ModelWindows(8, LIMITS)
    windows.append(vectors[:1_000], np.full(1_000, 1e9))
    np.testing.assert_array_equal(held(windows, windows.windows["slow"]), vectors[850:1_000])
    np.testing.assert_array_equal(held(windows, windows.windows["fast"]), vectors[970:1_000])


def test_a_ring_keeps_order_across_its_end(vectors: Vectors) -> None:
    ring = Ring(8, 10)
    for at in range(0, 25, 5):
        ring.append(vectors[at : at + 5], np.arange(at, at + 5, dtype=np.float64))
    np.testing.assert_array_equal(np.concatenate(list(ring.chunks(15, 25))), vectors[15:25])
    assert (ring.start, ring.end) == (15, 25)
    assert ring.after(20.0) == 21
    assert [ring.time(p) for p in (15, 24)] == [15.0, 24.0]


def test_a_window_never_exceeds_what_the_baseline_calibrates(
    vectors: Vectors, detector: Detector
) -> None:
    limits = WindowsSettings(
        fast=WindowSettings(seconds=10, max_vectors=1_000),
        slow=WindowSettings(seconds=100, max_vectors=1_000),
    )
    windows = ModelWindows(8, limits)
    windows.rebase(detector, 1e9, 10**9)
    windows.append(vectors[:600], np.full(600, 1e9))
    assert len(windows.windows["fast"]) == detector.n_reference // 5 == 200


def test_a_window_changes_its_generation_only_when_it_changes(
    vectors: Vectors, detector: Detector
) -> None:
    windows = ModelWindows(8, LIMITS)
    windows.append(vectors[:5], np.full(5, 1e9))
    window = windows.windows["fast"]
    seen = window.generation
    windows.advance(1e9 + 1)
    assert window.generation == seen
    windows.advance(1e9 + 11)
    assert window.generation != seen
    assert len(window) == 0


def test_the_middle_of_a_window_lies_between_its_ends(vectors: Vectors) -> None:
    windows = ModelWindows(8, LIMITS)
    assert windows.windows["fast"].middle is None
    windows.append(vectors[:3], np.array([1e9, 1e9 + 1, 1e9 + 6]))
    assert windows.windows["fast"].middle == 1e9 + 3


@pytest.mark.parametrize("now", [1e9, 1e9 + 50])
def test_a_new_detector_sees_all_that_the_limits_allow(
    vectors: Vectors, detector: Detector, now: float
) -> None:
    windows = ModelWindows(8, LIMITS)
    windows.append(vectors[:100], np.linspace(1e9 - 60, 1e9, 100))
    windows.advance(now)
    expected = {name: held(windows, window).copy() for name, window in windows.windows.items()}
    windows.rebase(detector, now, 10**9)
    for name, window in windows.windows.items():
        np.testing.assert_array_equal(held(windows, window), expected[name])
        assert_sums_equal_a_recount(detector, window, expected[name])


def test_what_a_detector_was_fitted_to_leaves_the_windows(
    vectors: Vectors, detector: Detector
) -> None:
    windows = ModelWindows(8, LIMITS)
    windows.append(vectors[:100], np.full(100, 1e9))
    windows.rebase(detector, 1e9, newer=10)
    for window in windows.windows.values():
        np.testing.assert_array_equal(held(windows, window), vectors[90:100])
        assert_sums_equal_a_recount(detector, window, vectors[90:100])
    windows.rebase(detector, 1e9, newer=-5)
    assert [len(window) for window in windows.windows.values()] == [0, 0]
