"""Explanations are kept, one for each time that a drift was explained."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import psycopg
import pytest

from ingest.store import explanations
from ingest.store.batch import Batch
from ingest.store.explanations import ExplanationRow, LastSeen

KEPT = 900.0
ROW = ExplanationRow("m", "fast", "", 1_000.0, 0, 1_000.5, 1_000.5, 1, "m: new", {"score": 7.5})
LATER = replace(ROW, number=1, explained_at=1_300.0, seen_at=1_300.0, summary="m: newer")


@pytest.fixture(autouse=True)
def model(insert_all: Callable[..., list[object]]) -> None:
    insert_all(Batch("m", np.ones((1, 4), np.float32)))


def keep(connection: psycopg.Connection, *rows: ExplanationRow) -> list[ExplanationRow]:
    return [explanations.keep(connection, row, KEPT) for row in rows]


def test_the_newest_explanation_of_a_window_is_found(connection: psycopg.Connection) -> None:
    assert explanations.newest(connection, "m", "fast") is None
    slow = replace(ROW, window_name="slow")
    of_slice = replace(LATER, slice="tenant=acme")
    assert keep(connection, ROW, LATER, slow, of_slice) == [ROW, LATER, slow, of_slice]
    assert explanations.newest(connection, "m", "fast") == LATER
    assert explanations.newest(connection, "m", "slow") == slow
    assert explanations.newest(connection, "m", "fast", "tenant=acme") == of_slice


def test_of_two_processes_that_explain_the_same_drift_the_first_counts(
    connection: psycopg.Connection,
) -> None:
    second = replace(ROW, began_at=1_001.0, explained_at=1_002.0, summary="m: of the second")
    assert keep(connection, ROW, second) == [ROW, ROW]
    assert keep(connection, LATER, replace(LATER, summary="second")) == [LATER, LATER]
    assert explanations.between(connection, "m", 0, 2_000) == [ROW, LATER]


def test_a_drift_that_was_not_seen_for_long_or_against_another_baseline_is_another_one(
    connection: psycopg.Connection,
) -> None:
    later = replace(ROW, began_at=2_000.0, explained_at=2_000.0, seen_at=2_000.0)
    other = replace(later, began_at=2_001.0, baseline_version=2, explained_at=2_001.0)
    assert keep(connection, ROW, later, other) == [ROW, later, other]


def test_once_the_clock_was_set_back_a_drift_of_the_time_before_is_another_one(
    connection: psycopg.Connection,
) -> None:
    now = replace(ROW, began_at=500.0, explained_at=500.0, seen_at=500.0, summary="m: now")
    assert keep(connection, ROW, now) == [ROW, now]
    assert explanations.newest(connection, "m", "fast", began_until=600.0) == now
    assert explanations.newest(connection, "m", "fast", began_until=1_000.0) == ROW


def test_a_drift_is_seen_until_it_ends(connection: psycopg.Connection) -> None:
    keep(connection, ROW)
    explanations.see(connection, ROW, 1_200.0)
    explanations.see(connection, ROW, 1_100.0)
    found = explanations.newest(connection, "m", "fast")
    assert found == replace(ROW, seen_at=1_200.0)


def test_a_past_time_has_what_was_known_then(connection: psycopg.Connection) -> None:
    keep(connection, ROW, LATER, replace(ROW, window_name="slow"))
    for moment, expected in ((1_100.0, ROW), (1_301.0, LATER), (999.0, ROW), (2_199.0, LATER)):
        found = explanations.at(connection, "m", moment, KEPT)
        assert {each.window_name: each for each in found}["fast"] == expected
    assert explanations.at(connection, "m", 2_300.0, KEPT) == []
    assert explanations.at(connection, "m", 50.0, KEPT) == []


def test_nothing_is_kept_of_a_model_that_was_removed(connection: psycopg.Connection) -> None:
    keep(connection, replace(ROW, model_name="gone"))
    assert explanations.newest(connection, "gone", "fast") is None


def test_a_list_of_drifts_has_the_newest_explanation_of_each_without_what_it_tells(
    connection: psycopg.Connection,
) -> None:
    told = {"score": 7.5, "groups": ["many"], "texts": "full", "metadata_keys": ["tenant"]}
    first, later = replace(ROW, told=told), replace(LATER, told=told)
    slow = replace(first, window_name="slow", began_at=2_500.0, explained_at=2_500.0)
    slow = replace(slow, seen_at=2_600.0)
    keep(connection, first, later, slow)
    allowed = {"texts": "full", "metadata_keys": ["tenant"]}
    found = explanations.drifts(connection, "m", 0, 3_000, 50)
    assert found == [replace(slow, told=allowed), replace(later, told=allowed)]
    assert explanations.drifts(connection, "m", 0, 3_000, 1) == found[:1]
    assert explanations.drifts(connection, "m", 0, 2_000, 50) == found[1:]
    assert explanations.drifts(connection, "m", 2_550, 3_000, 50) == found[:1]


def test_a_list_of_drifts_may_be_that_of_one_slice(connection: psycopg.Connection) -> None:
    acme, bolt = (replace(ROW, slice=f"tenant={name}") for name in ("acme", "bolt"))
    keep(connection, ROW, acme, bolt)
    assert len(explanations.drifts(connection, "m", 0, 3_000, 50)) == 3
    [found] = explanations.drifts(connection, "m", 0, 3_000, 50, "tenant=acme")
    assert found.slice == "tenant=acme"


def test_a_map_is_found_by_its_baseline_and_by_the_time_of_its_explanation(
    connection: psycopg.Connection,
) -> None:
    slow, of_slice = replace(ROW, window_name="slow"), replace(LATER, slice="tenant=acme")
    keep(connection, ROW, LATER, slow, of_slice)
    assert explanations.last_map(connection, "m", 1) is None
    for row, name in ((ROW, "first"), (LATER, "later"), (of_slice, "of a slice")):
        explanations.keep_map(connection, row, {"name": name})
    first, later = (datetime.fromtimestamp(row.explained_at, UTC) for row in (ROW, LATER))
    assert explanations.maps(connection, "m", [first]) == {"fast": {"name": "first"}}
    assert explanations.maps(connection, "m", [later]) == {"fast": {"name": "later"}}
    assert explanations.maps(connection, "m", []) == {}
    explanations.keep_map(connection, ROW, {"name": "again"})
    assert explanations.maps(connection, "m", [first])["fast"] == {"name": "again"}
    found = explanations.last_map(connection, "m", 1)
    assert found is not None
    assert found["name"] in ("later", "of a slice")
    assert explanations.last_map(connection, "m", 2) is None


def test_when_drift_was_last_seen_is_told_of_all_vectors_and_of_slices(
    connection: psycopg.Connection,
) -> None:
    never = -math.inf
    assert explanations.last_seen(connection, "m", 1) == (never, never)
    slow = replace(LATER, window_name="slow", seen_at=2_000.5)
    keep(connection, ROW, slow)
    assert explanations.last_seen(connection, "m", 1) == LastSeen(whole=2_000.5, slices=never)
    for name, seen_at in (("acme", 3_000.0), ("bolt", 2_500.0)):
        keep(connection, replace(ROW, slice=f"tenant={name}", seen_at=seen_at))
    assert explanations.last_seen(connection, "m", 1) == LastSeen(2_000.5, slices=3_000.0)
    for others in (("m", 2), ("other", 1)):
        assert explanations.last_seen(connection, *others) == (never, never)


def test_the_slices_of_a_window_that_drifted_in_a_span_are_found(
    connection: psycopg.Connection,
) -> None:
    acme = replace(ROW, slice="tenant=acme", began_at=3_000.0, seen_at=3_500.0)
    keep(connection, ROW, replace(LATER, seen_at=2_000.0), acme)
    for since, until, expected in (
        (0, 999, set()),
        (0, 1_000, {""}),
        (2_000, 2_999, {""}),
        (2_001, 3_000, {"tenant=acme"}),
        (0, 9_000, {"", "tenant=acme"}),
    ):
        assert explanations.drifted(connection, "m", "fast", 1, since, until) == expected
    for others in (("m", "slow", 1), ("other", "fast", 1), ("m", "fast", 2)):
        assert explanations.drifted(connection, *others, 0, 9_000) == set()
