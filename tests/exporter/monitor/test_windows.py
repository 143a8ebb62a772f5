"""Cached windows: always equal to a recount of the vectors they should hold."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from exporter.detector.detector import Detector
from exporter.monitor import ring
from exporter.monitor.local_time import to_local
from exporter.monitor.ring import Arrivals
from exporter.monitor.segments import Window
from exporter.monitor.windows import ModelWindows
from ingest.runtime.settings.settings import (
    BaselineSettings,
    MonitoringSettings,
    WindowSettings,
    WindowsSettings,
)
from ingest.runtime.time_zone import UTC
from ingest.store.changes import is_sampled

Vectors = NDArray[np.float32]

SETTINGS = MonitoringSettings(
    windows=WindowsSettings(
        fast=WindowSettings(seconds=10, min_vectors=2, max_vectors=30),
        slow=WindowSettings(seconds=100, min_vectors=2, max_vectors=250),
    ),
)
"""The detector's 1,000 vectors allow windows of 500, the first baseline's 5,000 more."""


def arrivals(vectors: Vectors, times: NDArray[np.float64], after: int = 0) -> Arrivals:
    return Arrivals.numbered(vectors, times, after)


def at_once(vectors: Vectors, time: float = 1e9, after: int = 0) -> Arrivals:
    return arrivals(vectors, np.full(len(vectors), time), after)


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


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(steps=steps, measured=st.booleans())
def test_windows_equal_a_recount_whatever_enters_and_leaves(
    steps: list[tuple[int, float, bool]], measured: bool, vectors: Vectors, detector: Detector
) -> None:
    windows = ModelWindows(8, SETTINGS, detector if measured else None)
    most = {"fast": 30, "slow": 250}
    end, now, times = 0, 1e9, np.empty(0)
    for number, (count, pause, advances) in enumerate(steps):
        now += pause
        times = np.concatenate((times, np.full(count, now)))
        windows.append(arrivals(vectors[end : end + count], times[end:], end))
        end += count
        if advances or number == len(steps) - 1:
            windows.advance(now)
            for name, (stream, window) in windows.views.items():
                young = times > now - windows.limits[name].settings.seconds
                sampled = is_sampled(np.arange(1, end + 1), stream.level)
                expected = vectors[:end][young & sampled]
                assert len(expected) <= most[name]
                np.testing.assert_array_equal(windows.arrivals(name).vectors, expected)
                if measured:
                    assert_sums_equal_a_recount(detector, window, expected)


def test_a_window_spans_its_seconds_however_many_vectors_arrive(
    vectors: Vectors, detector: Detector
) -> None:
    """Ten times as many as fit, as one burst and one by one."""
    seconds = np.arange(100) + 1e9
    windows = ModelWindows(8, SETTINGS, detector)
    sent = np.resize(vectors, (2_000, 8))
    for at, second in enumerate(seconds):
        windows.append(at_once(sent[20 * at : 20 * at + 20], second, 20 * at))
    windows.advance(seconds[-1])
    for name, span in {"fast": 10, "slow": 100}.items():
        held = windows.arrivals(name)
        capacity = windows.limits[name].capacity
        assert 0.4 * capacity <= len(held) <= capacity
        assert windows.start(name) == pytest.approx(seconds[-1] - span, abs=2)
        quarters = np.histogram(held.times, 4, (seconds[-1] - span, seconds[-1]))[0]
        assert quarters == pytest.approx(len(held) / 4, rel=0.4)


def test_a_window_that_had_too_many_vectors_tells_that_it_could_hold_more(
    vectors: Vectors,
) -> None:
    windows = ModelWindows(8, SETTINGS)
    windows.append(at_once(vectors[:400]))
    assert windows.views["fast"].stream.level in (14, 15, 16, 17)
    assert windows.sparse == []
    windows.append(at_once(vectors[400:410], 1e9 + 9, 400))
    windows.advance(1e9 + 11)
    assert windows.sparse == ["fast"]
    windows.fill(0, ["fast"], at_once(vectors[400:410], 1e9 + 9, 400))
    np.testing.assert_array_equal(windows.arrivals("fast").vectors, vectors[400:410])
    assert windows.sparse == []


class Archive:
    """Vectors that windows are read from, and the levels at which they were."""

    def __init__(self, held: Arrivals) -> None:
        self._held = held
        self.levels: list[int] = []

    def first_seq(self, seconds: float) -> int:
        return int(self._held.within(seconds).seqs[0])

    def read(self, after: int, seconds: float, level: int) -> Arrivals:
        self.levels.append(level)
        young = self._held.within(seconds)
        return young.part(young.seqs > after).sampled(level)


def test_only_the_window_that_has_room_is_read_again(vectors: Vectors) -> None:
    windows = ModelWindows(8, SETTINGS)
    held = arrivals(vectors[:1_000], 1e9 + np.arange(1_000) / 20)
    windows.follow(Archive(held), 1_000, 1e9 + 50)
    levels = {name: stream.level for name, (stream, _) in windows.views.items()}
    assert levels["fast"] > levels["slow"] > 0
    slow = windows.views["slow"]
    later = arrivals(vectors[1_000:1_001], np.array([1e9 + 62]), 1_000)
    archive = Archive(Arrivals.numbered(vectors[:1_001], np.append(held.times, later.times)))
    windows.follow(archive, 1_001, 1e9 + 62)
    assert archive.levels == [levels["slow"], 0]
    assert windows.views["fast"].stream.level == 0
    assert windows.views["slow"] is slow


def test_a_sample_that_has_nothing_by_chance_is_not_read_again_and_again(vectors: Vectors) -> None:
    tiny = WindowsSettings(
        fast=WindowSettings(seconds=10, min_vectors=2, max_vectors=2),
        slow=WindowSettings(seconds=100, min_vectors=2, max_vectors=250),
    )
    held = at_once(vectors)

    def followed(last: int) -> tuple[ModelWindows, list[int]]:
        windows = ModelWindows(8, MonitoringSettings(windows=tiny))
        archive = Archive(held.part(slice(0, last)))
        windows.follow(archive, last, 1e9)
        return windows, archive.levels

    found = [followed(last) for last in range(300, 330)]
    assert any(windows.sparse == ["fast"] for windows, _ in found)
    assert all(len(levels) == 2 for _, levels in found)


def test_windows_that_are_filled_together_each_hold_their_own_span(
    vectors: Vectors, detector: Detector
) -> None:
    windows = ModelWindows(8, SETTINGS, detector)
    times = 1e9 + np.arange(100.0)
    windows.fill(0, ["fast", "slow"], arrivals(vectors[:100], times))
    np.testing.assert_array_equal(windows.arrivals("fast").vectors, vectors[90:100])
    np.testing.assert_array_equal(windows.arrivals("slow").vectors, vectors[:100])
    for name, (_, window) in windows.views.items():
        assert_sums_equal_a_recount(detector, window, windows.arrivals(name).vectors)


def test_old_vectors_that_arrive_late_make_no_window_sample(vectors: Vectors) -> None:
    """As after an outage: most of what is read is too old for the fast window."""
    windows = ModelWindows(8, SETTINGS)
    windows.append(arrivals(vectors[:100], 1e9 + np.arange(100.0)))
    assert {stream.level for stream, _ in windows.views.values()} == {0}
    np.testing.assert_array_equal(windows.arrivals("fast").vectors, vectors[90:100])


def test_a_window_never_exceeds_what_the_baseline_calibrates(
    vectors: Vectors, detector: Detector
) -> None:
    windows = ModelWindows(8, MonitoringSettings(), detector)
    windows.append(at_once(vectors[:600]))
    assert windows.limits["fast"].capacity == detector.n_reference // 2 == 500
    assert 250 < len(windows.arrivals("fast")) <= 500


@pytest.mark.parametrize(("first", "slow"), [(250, 125), (400, 200), (5_000, 250)])
def test_without_a_baseline_windows_are_as_large_as_the_first_will_allow(
    vectors: Vectors, first: int, slow: int
) -> None:
    settings = SETTINGS.model_copy(update={"baseline": BaselineSettings(vectors=first)})
    windows = ModelWindows(8, settings)
    assert {name: limit.capacity for name, limit in windows.limits.items()} == {
        "fast": 30,
        "slow": slow,
    }


def kept_vectors() -> float:
    """For how many vectors rings have memory, while that is traced."""
    gc.collect()
    traces = tracemalloc.take_snapshot().traces
    kept = sum(each.size for each in traces if each.traceback[0].filename == ring.__file__)
    return kept / (8 * 4 + 8 + 8 + 4)


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize(
    ("a_second", "sampling", "most"),
    [(2.4, set(), 250), (2.9, {"slow"}, 280), (20, {"fast", "slow"}, 280)],
)
def test_no_more_is_kept_than_the_windows_may_hold(
    vectors: Vectors,
    detector: Detector,
    measured: bool,
    a_second: float,
    sampling: set[str],
    most: int,
) -> None:
    """Windows that hold everything share what they hold; one that samples has a ring of its own."""
    windows = ModelWindows(8, SETTINGS, detector if measured else None)
    times = 1e9 + np.arange(2_900) / a_second
    tracemalloc.start()
    for at in range(0, 2_900, 29):
        part = slice(at, at + 29)
        windows.append(arrivals(vectors[part], times[part], at))
    kept = kept_vectors()
    tracemalloc.stop()
    assert {name for name, view in windows.views.items() if view.stream.level} == sampling
    assert len(windows.arrivals("slow")) > 100
    assert kept < 1.15 * most  # some of it for the arrays themselves


@pytest.mark.parametrize("burst", [40, 400], ids=["for the fast window", "for both windows"])
def test_after_a_burst_windows_share_one_ring_again(
    vectors: Vectors, detector: Detector, burst: int
) -> None:
    counts = np.full(300, 1)
    counts[50] = burst
    held = arrivals(
        np.resize(vectors, (counts.sum(), 8)), 1e9 + np.repeat(np.arange(300.0), counts)
    )
    windows = ModelWindows(8, SETTINGS, detector)
    levels = set()
    for at, last in enumerate(counts.cumsum()):
        windows.follow(Archive(held.part(slice(0, last))), int(last), 1e9 + at)
        levels |= {stream.level for stream, _ in windows.views.values()}
    assert len(levels) > 1
    fast, slow = (windows.views[name].stream for name in ("fast", "slow"))
    assert fast is slow
    for name, count in {"fast": 10, "slow": 100}.items():
        np.testing.assert_array_equal(windows.arrivals(name).vectors, held.vectors[-count:])
        assert_sums_equal_a_recount(detector, windows.views[name].window, held.vectors[-count:])


def test_a_window_that_samples_does_not_have_the_others_read_at_each_poll(
    vectors: Vectors,
) -> None:
    """The slow window has too many vectors, and the fast one has not."""
    windows = ModelWindows(8, SETTINGS)
    held = arrivals(vectors[:2_900], 1e9 + np.arange(2_900) / 2.9)
    filled = []
    for last in range(29, 2_901, 29):
        windows.follow(Archive(held.part(slice(0, last))), last, float(held.times[last - 1]))
        filled.append((windows.views["fast"].stream, windows.views["slow"].stream))
    assert len({fast for fast, _ in filled}) == 2
    assert len({slow for _, slow in filled}) < 10


def test_vectors_that_a_window_replaces_are_freed_at_once(
    vectors: Vectors, detector: Detector
) -> None:
    windows = ModelWindows(8, SETTINGS, detector)
    windows.append(at_once(vectors[:100]))
    replaced = weakref.ref(windows.views["slow"].stream.ring)
    gc.disable()
    try:
        windows.fill(0, list(windows), at_once(vectors[:100]))
        assert replaced() is None
    finally:
        gc.enable()


def test_a_window_changes_its_generation_only_when_it_changes(
    vectors: Vectors, detector: Detector
) -> None:
    windows = ModelWindows(8, SETTINGS)
    windows.append(at_once(vectors[:5]))
    window = windows.views["fast"].window
    seen = window.generation
    windows.advance(1e9 + 1)
    assert window.generation == seen
    windows.advance(1e9 + 11)
    assert window.generation != seen
    assert len(window) == 0


def test_the_start_of_a_window_is_when_its_oldest_vector_was_stored(vectors: Vectors) -> None:
    windows = ModelWindows(8, SETTINGS)
    assert windows.start("fast") is None
    windows.append(arrivals(vectors[:3], np.array([1e9, 1e9 + 1, 1e9 + 6])))
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
    assert detector.seasons == ("daily", "weekly")
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
        windows.append(arrivals(vectors[at : at + 30], times[at : at + 30], at))
        windows.advance(times[at : at + 30][-1])
        for name, (_, window) in windows.views.items():
            assert window.sums is not None
            if times[at] > 9 * day:
                scores[name].append(detector.score(window.sums))
    assert {name: len(window) for name, (_, window) in windows.views.items()} == {
        "fast": 90,
        "slow": 720,
    }
    assert np.median(scores["fast"]) < 1
    assert np.median(scores["slow"]) < 1


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize("changes_at", ["2026-03-29", "2026-10-25"])
def test_a_clock_change_is_no_drift_in_the_zone_of_the_users(changes_at: str) -> None:
    change = datetime.fromisoformat(changes_at).replace(tzinfo=UTC).timestamp()
    highest = {zone: max(scores_after(change, zone)) for zone in (BERLIN, UTC)}
    assert highest[BERLIN] < 2
    assert highest[UTC] > highest[BERLIN] + 0.5


def scores_after(change: float, zone: ZoneInfo) -> list[float]:
    """Score the hours of the second day after a clock change, by a baseline of the week before."""
    random = np.random.default_rng(0)
    day = 86_400.0

    def stream(times: NDArray[np.float64]) -> Vectors:
        hours = 2 * np.pi * to_local(times, BERLIN) / day
        vectors = random.standard_normal((len(times), 8))
        # Twice a day, so that an hour changes more than a third of the season's size.
        vectors[:, 0] += 2 * np.sin(2 * hours)
        return vectors.astype(np.float32)

    fitted = np.sort(random.uniform(change - 8 * day, change, 5_000))
    detector = Detector.fit(stream(fitted), timestamps=to_local(fitted, zone))
    settings = MonitoringSettings(
        windows=WindowsSettings(
            fast=WindowSettings(seconds=3_600), slow=WindowSettings(seconds=10_800)
        )
    )
    windows = ModelWindows(8, settings, detector, zone=zone)
    times = np.arange(change + day, change + 2 * day, 5.0)
    vectors = stream(times)
    scores = []
    for at in range(0, len(times), 360):
        windows.append(arrivals(vectors[at : at + 360], times[at : at + 360], at))
        sums = windows.views["fast"].window.sums
        assert sums is not None
        scores.append(detector.score(sums))
    return scores


def test_a_part_that_is_cut_keeps_its_local_times() -> None:
    random = np.random.default_rng(0)
    vectors = random.standard_normal((300, 8)).astype(np.float32)
    detector = Detector.fit(vectors[:200], timestamps=np.linspace(0, 86_400, 200))
    windows = ModelWindows(8, SETTINGS, detector, zone=BERLIN)
    times = 1e9 + np.arange(100.0)
    windows.append(arrivals(vectors[200:], times))
    windows.advance(1e9 + 105.5)
    held = windows.arrivals("slow")
    sums = windows.views["slow"].window.sums
    assert sums is not None
    assert 0 < len(held) < 100
    expected = detector.sums(held.vectors, to_local(held.times, BERLIN))
    np.testing.assert_array_equal(sums.mean_waves, expected.mean_waves)


def test_revisions_enter_and_leave_a_window_with_their_vectors(vectors: Vectors) -> None:
    windows = ModelWindows(8, SETTINGS)
    cosines = np.array([0.5, np.nan, 0.75], np.float32)
    windows.append(
        Arrivals.numbered(vectors[:3], np.array([1e9, 1e9 + 1, 1e9 + 6]), cosines=cosines)
    )
    assert windows.revised_cosines("fast").tolist() == [0.5, 0.75]
    windows.advance(1e9 + 10.5)
    assert windows.revised_cosines("fast").tolist() == [0.75]
    windows.append(arrivals(vectors[3:5], np.array([1e9 + 11, 1e9 + 12]), 3))
    assert windows.revised_cosines("slow").tolist() == [0.5, 0.75]
