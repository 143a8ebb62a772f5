"""Shares: values are compared between two samples, whatever the sessions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.stats.shares import OTHER, Share, compare

TENANTS = np.array(["a", "b", "c", "d", "e"], object)
USUAL = (0.4, 0.25, 0.2, 0.1, 0.05)
GROWN = (0.4, 0.25, 0.1, 0.1, 0.15)


def stream(
    random: np.random.Generator,
    n: int,
    weights: tuple[float, ...] = USUAL,
    shortest: int = 1,
    longest: int = 1,
    at_once: int = 1,
    repeats: int = 1,
) -> list[str]:
    """Values of sessions that are under way at the same time; each is sent some times in a row."""
    left, whose = np.zeros(at_once, int), np.zeros(at_once, int)
    sent: list[int] = []
    while len(sent) < n:
        session = random.integers(at_once)
        if not left[session]:
            left[session] = random.integers(shortest, longest + 1)
            whose[session] = random.choice(len(TENANTS), p=weights)
        left[session] -= 1
        sent += [int(whose[session])] * repeats
    values: list[str] = TENANTS[sent[:n]].tolist()
    return values


def by_value(found: tuple[Share, ...]) -> dict[str, Share]:
    return {each.value: each for each in found}


def test_shares_are_those_of_the_samples() -> None:
    found = compare(["x"] * 30 + ["y"] * 70, ["x"] * 10 + ["y"] * 90, 5)
    assert [(each.value, each.share, each.share_before) for each in found] == [
        ("y", 0.7, 0.9),
        ("x", 0.3, 0.1),
    ]


def test_a_tenant_that_tripled_is_changed_and_others_are_not() -> None:
    random = np.random.default_rng(0)
    found = by_value(compare(stream(random, 2_000, GROWN), stream(random, 5_000), 5))
    assert found["e"].changed
    assert found["c"].changed
    assert not found["a"].changed
    assert not found["b"].changed


def test_a_new_value_and_a_vanished_one_are_changed() -> None:
    random = np.random.default_rng(0)
    before = stream(random, 5_000)
    now = ["new" if value == "b" else value for value in stream(random, 1_000)]
    found = by_value(compare(now, before, 10))
    assert found["new"].share_before == 0
    assert found["new"].changed
    assert found["b"].share == 0
    assert found["b"].changed


@pytest.mark.parametrize(
    ("n", "kind"),
    [
        pytest.param(500, {}, id="independent"),
        pytest.param(500, {"shortest": 3, "longest": 49}, id="sessions"),
        pytest.param(500, {"shortest": 20, "longest": 50, "at_once": 8}, id="interleaved"),
        pytest.param(2_500, {"shortest": 20, "longest": 50, "at_once": 8}, id="interleaved, long"),
        pytest.param(500, {"repeats": 4}, id="repeats"),
    ],
)
def test_without_a_change_hardly_any_sample_shows_one(n: int, kind: dict[str, Any]) -> None:
    random = np.random.default_rng(1)
    trials = 40
    alarms = sum(
        any(
            each.changed
            for each in compare(stream(random, n, **kind), stream(random, 5_000, **kind), 5)
        )
        for _ in range(trials)
    )
    assert alarms <= 0.05 * trials


def test_one_session_of_a_new_tenant_is_no_change_of_shares() -> None:
    random = np.random.default_rng(2)
    now = stream(random, 500)
    now[100:140] = ["new"] * 40
    assert not by_value(compare(now, stream(random, 5_000), 10))["new"].changed


def test_what_is_not_listed_is_other() -> None:
    many = [f"v{at}" for at in range(1_000)]
    found = compare([*many, *["big"] * 1_000], many, 3)
    assert [each.value for each in found] == ["big", OTHER]
    assert found[1].share == 0.5
    assert sum(each.share for each in found) == pytest.approx(1)


def test_some_values_are_always_listed() -> None:
    values = [f"v{at}" for at in range(10) for _ in range(10 - at)]
    found = compare(values, values, 2, always=["v9"])
    assert [each.value for each in found] == ["v0", "v9", OTHER]


def test_small_samples_are_not_tested_and_empty_ones_not_compared() -> None:
    [new, old] = compare(["x"] * 49, ["y"] * 500, 5)
    assert (new.p_value, new.changed, old.changed) == (1, False, False)
    assert compare([], ["x"], 5) == compare(["x"], [], 5) == ()


@given(
    st.lists(st.text(max_size=3), max_size=80),
    st.lists(st.text(max_size=3), max_size=80),
    st.integers(0, 4),
)
def test_shares_add_up_whatever_the_values(now: list[str], before: list[str], most: int) -> None:
    found = compare(now, before, most)
    assert len(found) <= most + 1
    assert all(0 <= each.p_value <= 1 for each in found)
    if now and before:
        assert sum(each.share for each in found) == pytest.approx(1)
        assert sum(each.share_before for each in found) == pytest.approx(1)
