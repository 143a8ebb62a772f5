"""Metric families: each is defined once, and reads its samples from a snapshot."""

from __future__ import annotations

import pytest

from exporter.metrics import families
from exporter.metrics.families import FAMILIES, SnapshotFamily
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
def test_samples_have_the_labels_that_are_declared(family: SnapshotFamily) -> None:
    for labels, value in family.read(Snapshot(())):
        assert len(labels) == len(family.labels)
        assert isinstance(value, int | float)


def test_what_is_not_known_has_no_sample() -> None:
    empty = Snapshot(())
    assert list(families.POLL_TIMESTAMP.read(empty)) == []
    assert list(families.UP.read(empty)) == [((), 0.0)]
    assert list(families.SCORE.read(empty)) == []
