"""Groups are the parts of the space where the window and the baseline differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from exporter.detector import Detector
from exporter.detector.ratio import ChangedRatio, Comparison
from exporter.explain.groups import Members, baseline_centres, dependence, grown, shrunk
from tests.exporter.explain.space import KNOWN, Draw, Vectors


def groups_of(
    detector: Detector, baseline: Vectors, window: Vectors
) -> tuple[list[Members], list[Members]]:
    places, compared = detector.places(baseline), detector.compare(window)
    known = baseline_centres(places)
    effect = dependence(compared.places, places, known)
    everything = np.arange(len(window)), np.arange(len(baseline))
    return (
        grown(compared, places, known, effect),
        shrunk(compared.places, places, known, *everything, effect),
    )


def test_two_new_topics_are_two_groups(detector: Detector, baseline: Vectors, draw: Draw) -> None:
    new = [draw([20], 100), draw([21], 50)]
    window = np.concatenate([*new, draw(KNOWN, 850)])
    order = np.random.default_rng(0).permutation(1_000)
    found, gone = groups_of(detector, baseline, window[order])
    assert gone == []
    shares = [
        [np.mean(order[each.window] < 100), np.mean(order[each.window] < 150)] for each in found
    ]
    assert max(first for first, _ in shares) > 0.9
    assert max(both - first for first, both in shares) > 0.9
    assert all(both > 0.9 for _, both in shares)


def test_a_group_that_the_baseline_has_too_is_widened_on_both_sides(
    detector: Detector, baseline: Vectors, draw: Draw
) -> None:
    window = np.concatenate([np.tile(draw([3], 30), (10, 1)), draw(KNOWN, 700)])
    window[:300] += 0.02 * np.random.default_rng(0).normal(size=(300, 64)).astype(np.float32)
    found, _ = groups_of(detector, baseline, np.random.default_rng(0).permutation(window))
    assert sum(len(each.window) for each in found) > 250
    assert sum(len(each.baseline) for each in found) > 0


def test_a_vanished_topic_is_a_shrunk_group(
    detector: Detector, baseline: Vectors, draw: Draw
) -> None:
    found, gone = groups_of(detector, baseline, draw(KNOWN[1:], 1_000))
    assert found == []
    # Sixty-four clusters hold twenty topics.
    assert 1 <= len(gone) <= 6
    again = detector.places(draw([0], 200))
    known = baseline_centres(detector.places(baseline))
    near = ((again[:, None] - known) ** 2).sum(axis=2).argmin(axis=1)
    most = np.bincount(near, minlength=len(known)).argmax()
    assert any((each.centre == known[most]).all() for each in gone)
    assert all(len(each.window) < 0.2 * len(each.baseline) for each in gone)


def test_what_is_thinned_out_by_new_topics_did_not_shrink(
    detector: Detector, baseline: Vectors, draw: Draw
) -> None:
    window = np.concatenate([draw([20, 21], 700), draw(KNOWN, 300)])
    order = np.random.default_rng(0).permutation(1_000)
    compared, places = detector.compare(window[order]), detector.places(baseline)
    known = baseline_centres(places)
    old = np.flatnonzero(order >= 700)
    assert shrunk(compared.places, places, known, old, np.arange(len(places)), 1.0) == []
    assert (
        shrunk(compared.places, places, known, np.arange(1_000), np.arange(len(places)), 1.0) != []
    )


def test_nothing_shrank_where_everything_is_new(
    detector: Detector, baseline: Vectors, draw: Draw
) -> None:
    places = detector.places(baseline)
    known = baseline_centres(places)
    assert (
        shrunk(places[:100], places, known, np.array([], np.intp), np.arange(len(places)), 1.0)
        == []
    )


def test_windows_without_drift_have_no_group(
    detector: Detector, baseline: Vectors, draw: Draw
) -> None:
    found = [groups_of(detector, baseline, draw(KNOWN, 1_000)) for _ in range(20)]
    assert sum(bool(new) for new, _ in found) <= 2
    assert sum(bool(gone) for _, gone in found) <= 2


@pytest.mark.parametrize(("lower", "groups"), [(0.0, 0), (0.01, 1)])
def test_a_weak_group_counts_only_where_the_window_has_certainly_changed(
    detector: Detector, baseline: Vectors, draw: Draw, lower: float, groups: int
) -> None:
    window = np.random.default_rng(0).permutation(
        np.concatenate([draw([20], 12), draw(KNOWN, 988)])
    )
    compared, places = detector.compare(window), detector.places(baseline)
    known = baseline_centres(places)
    of_ratio = replace(compared, changed=ChangedRatio(0.02, lower, 0.05))
    assert len(grown(of_ratio, places, known, 1.06)) == groups


def test_a_group_whose_shares_are_alike_did_not_grow() -> None:
    window, held_out, baseline = (
        np.random.default_rng(seed).normal(size=(n, 2)).astype(np.float32)
        for seed, n in enumerate((1_000, 1_000, 3_000))
    )
    # Only vectors of the window rank high, but each has as many of the baseline beside it as ever.
    rank = np.where(window[:, 0] > 1, 1.0, 0.0)
    changed = ChangedRatio(0.02, 0.01, 0.05)
    compared = Comparison(changed, window, held_out, rank, np.full(1_000, -1.0))
    assert grown(compared, baseline, baseline_centres(baseline), 1.0) == []


def test_a_small_baseline_has_few_clusters(baseline: Vectors) -> None:
    assert len(baseline_centres(baseline[:100])) == 5
    assert len(baseline_centres(baseline[:5])) == 1


def test_the_pieces_of_one_topic_are_one_group(
    detector: Detector, baseline: Vectors, draw: Draw
) -> None:
    window = np.random.default_rng(0).permutation(
        np.concatenate([draw([20], 150), draw(KNOWN, 850)])
    )
    found, _ = groups_of(detector, baseline, window)
    assert len(found) == 1


def interleaved(draw: Draw, n: int, seed: int) -> Vectors:
    """Draw sessions of 40 near vectors each, eight at a time."""
    random = np.random.default_rng(seed)
    firsts = draw(KNOWN, n // 40)
    rows: Vectors = np.concatenate(
        [np.tile(firsts[at : at + 8], (40, 1)) for at in range(0, len(firsts), 8)]
    )
    return rows + 0.04 * random.normal(size=rows.shape).astype(np.float32)


def test_interleaved_sessions_are_not_groups(draw: Draw) -> None:
    baseline = interleaved(draw, 4_800, 0)
    detector = Detector.fit(baseline)
    named = [
        sum(map(len, groups_of(detector, baseline, interleaved(draw, 960, seed)))) > 0
        for seed in range(1, 6)
    ]
    assert sum(named) <= 1
