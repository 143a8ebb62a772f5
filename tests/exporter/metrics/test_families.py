"""Metric families: each is defined once, and reads its samples from a snapshot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.metrics import families
from exporter.metrics.families import FAMILIES
from exporter.metrics.shapes import SnapshotFamily
from exporter.monitor.snapshot import Snapshot


def test_names_are_unique_and_follow_prometheus() -> None:
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)
    for family in FAMILIES:
        assert family.name.startswith("embedding_drift_")
        assert family.name.endswith("_total") == (family.type == "counter")
        assert family.help.endswith(".")


def test_every_family_of_the_module_is_on_the_page() -> None:
    defined = {each for each in vars(families).values() if isinstance(each, SnapshotFamily)}
    assert defined == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_each_family_has_samples_with_the_labels_that_it_declares(
    family: SnapshotFamily, full: Snapshot
) -> None:
    samples = list(family.read(full))
    assert samples
    for labels, value in samples:
        assert len(labels) == len(family.labels)
        assert all(isinstance(label, str) for label in labels)
        assert isinstance(value, int | float)


@pytest.mark.parametrize("family", [families.STATE, families.HISTORY_STATE, families.CAUSE])
def test_of_the_states_of_a_window_only_the_one_that_holds_has_a_series(
    family: SnapshotFamily, full: Snapshot
) -> None:
    one_model = replace(full, models=full.models[:1])
    samples = list(family.read(one_model))
    assert {value for _, value in samples} == {1}
    windows = [labels[:-1] for labels, _ in samples]
    assert len(windows) == len(set(windows))


def test_what_is_not_known_has_no_sample() -> None:
    empty = Snapshot(())
    assert list(families.POLL_TIMESTAMP.read(empty)) == []
    assert list(families.UP.read(empty)) == [((), 0.0)]
    assert list(families.SCORE.read(empty)) == []


def test_slices_have_series_of_their_own_in_few_families(full: Snapshot) -> None:
    sliced = {
        family.name
        for family in FAMILIES
        for labels, _ in family.read(full)
        if "window" in family.labels and "tenant=acme" in labels
    }
    assert sliced == {
        "embedding_drift_state",
        "embedding_drift_score",
        "embedding_drift_score_rise",
        "embedding_drift_magnitude",
        "embedding_drift_magnitude_lower",
        "embedding_drift_magnitude_upper",
        "embedding_drift_window_vectors",
    }


def test_shares_of_values_are_told_once_for_all_windows(full: Snapshot) -> None:
    one_model = replace(full, models=full.models[:1])
    assert list(families.SLICE_RATIO.read(one_model)) == [(("m", "tenant", "acme"), 1.0)]
    assert list(families.SLICE_BASELINE_RATIO.read(one_model)) == [(("m", "tenant", "acme"), 0.9)]
