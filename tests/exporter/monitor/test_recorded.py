"""What the store has of a model is reported as it was recorded, in UTC."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import msgspec

from exporter.monitor import recorded
from ingest.store.history import HistoryRow
from tests.exporter.explained import SUMMARY, explained

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROW = HistoryRow("m", "fast", "ok", 100, 3, cosine_similarity=0.5, score=1.5, norm=math.nan)


def test_checks_of_a_window_have_their_time_in_utc() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=9)))
    found = recorded.checks("m", "fast", [(there, ROW)])
    [check] = msgspec.to_builtins(found)["checks"]
    assert check["computed_at"] == "2026-01-01T00:00:00Z"
    assert (check["score"], check["vectors"], check["baseline_version"]) == (1.5, 100, 3)
    assert msgspec.json.decode(msgspec.json.encode(found))["checks"][0]["norm"] is None


def test_a_past_time_has_the_last_check_and_the_explanation_of_each_window() -> None:
    at = NOW.timestamp()
    found = recorded.past("m", at, [(at - 60, ROW)], [], [recorded.explanation(explained(at - 30))])
    assert found.at == NOW
    assert {name: check.score for name, check in found.checks.items()} == {"fast": 1.5}
    [told] = found.explanations
    assert (told.window, told.summary) == ("fast", SUMMARY)
    assert told.explained_at == NOW - timedelta(seconds=30)


def test_an_explanation_of_another_release_may_be_unreadable() -> None:
    row = explained(NOW.timestamp())
    assert recorded.is_readable(row)
    assert not recorded.is_readable(replace(row, told={}))


def test_a_model_that_no_exporter_has_checked_has_neither_age_nor_numbers() -> None:
    found = recorded.unchecked("m")
    assert found.age is None
    assert (found.windows.fast.state, found.windows.fast.score) == ("not_followed", None)
