"""The condition of a model: one word, and why."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import pytest

from exporter.explain.kinds import KINDS
from exporter.http.condition import CAUSES, REASONS, WORDS, Reading, drifting, judge
from exporter.http.rendering import heading
from exporter.monitor.states import STATES, State
from ingest.runtime.thresholds import SCORE, of_fleet
from ingest.store.history import HistoryRow

WEEKLY = of_fleet("weekly", 1)


def reading(score: float | None, window: str = "fast", state: State = "ok") -> Reading:
    return Reading(window, state, 250, score, None, None, None, {})


def test_every_state_has_a_reason() -> None:
    assert set(REASONS) == set(STATES) == set(get_args(State))


def test_thresholds_grow_with_the_number_of_models_as_in_the_rules() -> None:
    assert of_fleet("weekly", 1) == SCORE["weekly"]
    many = of_fleet("weekly", 1_000)
    assert many["fast"].sudden == SCORE["weekly"]["fast"].sudden + 3
    # rules/drift.rules.yaml adds a quarter to the average of the fast window.
    assert many["fast"].lasting == SCORE["weekly"]["fast"].lasting + 3 / 4
    assert many["slow"].lasting == SCORE["weekly"]["slow"].lasting + 3
    assert many["slow"].rise == SCORE["weekly"]["slow"].rise + 3 / 4
    assert many["fast"].rise == math.inf


def test_a_score_above_the_sudden_threshold_is_drift() -> None:
    worst = reading(5.1)
    found = judge([reading(0.2, "slow"), worst], WEEKLY, {})
    assert (found.word, found.worst) == ("drifting", worst)
    assert judge([reading(4.9)], WEEKLY, {}).word == "quiet"


@pytest.mark.parametrize(
    ("now", "hour", "word"), [(2.0, 1.7, "drifting"), (1.0, 1.7, "quiet"), (2.0, 1.5, "quiet")]
)
def test_an_hour_above_the_lasting_threshold_is_drift_until_it_ends(
    now: float, hour: float, word: str
) -> None:
    averages = {("fast", ""): hour, ("fast", "tenant=acme"): hour}
    assert judge([reading(now)], WEEKLY, averages).word == word
    acme, bolt = (replace(reading(now), slice=f"tenant={name}") for name in ("acme", "bolt"))
    found = judge([reading(0.3)], WEEKLY, averages, slices=[bolt, acme])
    assert found.word == word
    if found.is_drift:
        assert found.worst == acme
    assert judge([acme], WEEKLY, averages).word == word
    assert judge([bolt], WEEKLY, averages).word == "quiet"


@pytest.mark.parametrize(("rise", "word"), [(1.4, "drifting"), (1.2, "quiet"), (None, "quiet")])
def test_a_rise_over_the_week_before_is_drift(rise: float | None, word: str) -> None:
    slow = replace(reading(1.2, "slow"), rise=rise)
    found = judge([reading(0.3), slow], WEEKLY, {})
    assert found.word == word
    if found.is_drift:
        assert found.worst == slow
    acme = replace(slow, slice="tenant=acme")
    assert judge([reading(0.3)], WEEKLY, {}, slices=[acme]).word == word


def test_a_slice_that_drifts_is_told_if_its_model_does_not() -> None:
    acme = replace(reading(9.0), slice="tenant=acme")
    quiet = replace(reading(1.0), slice="tenant=bolt")
    found = judge([reading(1.0)], WEEKLY, {}, slices=[quiet, acme])
    assert (found.word, found.worst) == ("drifting", acme)
    whole = reading(6.0)
    assert judge([whole], WEEKLY, {}, slices=[acme]).worst == whole
    assert judge([reading(1.0)], WEEKLY, {}, slices=[quiet]).word == "quiet"
    assert drifting([quiet, acme], WEEKLY, {}) == [acme]


def test_one_measured_window_is_enough() -> None:
    windows = [reading(None, "fast", "too_few_vectors"), reading(0.3, "slow")]
    assert judge(windows, WEEKLY, {}).word == "quiet"


@pytest.mark.parametrize(
    ("state", "word"),
    [("no_baseline", "learning"), ("stale", "cannot tell"), ("not_followed", "cannot tell")],
)
def test_without_a_measurement_the_reason_is_told(state: State, word: str) -> None:
    found = judge([reading(None, state=state)], WEEKLY, {})
    assert (found.word, found.why) == (word, REASONS[state])


def test_drift_that_is_not_measured_now_is_still_drift() -> None:
    few = reading(None, state="too_few_vectors")
    found = judge([few, reading(0.3, "slow")], WEEKLY, {}, {("fast", ""): "model"})
    assert (found.word, found.worst, found.cause) == ("model changed", few, "model")
    assert found.why == "as last measured; now too few vectors in the window"
    assert heading(found) == "embeddingmodelchanged"
    # Without the cause, nobody has found drift.
    assert judge([few], WEEKLY, {}).word == "cannot tell"
    stale = reading(None, state="stale")
    assert judge([stale], WEEKLY, {}, {("fast", ""): "model"}).word == "cannot tell"
    # Measured drift is told first.
    worst = reading(9.0, "slow")
    assert judge([few, worst], WEEKLY, {}, {("fast", ""): "model"}).worst == worst


def test_without_averages_a_high_score_is_drift_if_its_cause_is_known_and_else_not_quiet() -> None:
    high, low = reading(2.0), reading(1.5)
    acme = replace(high, slice="tenant=acme")
    found = judge([low, high], WEEKLY, None, {("fast", ""): "model"})
    assert (found.word, found.worst, found.cause) == ("model changed", high, "model")
    found = judge([low], WEEKLY, None, {("fast", "tenant=acme"): "new content"}, [acme])
    assert (found.word, found.worst) == ("drifting", acme)
    for unsure in (judge([low, high], WEEKLY, None), judge([low], WEEKLY, None, slices=[acme])):
        assert unsure.word == "cannot tell"
        assert unsure.why is not None
        assert "PostgreSQL does not answer in time" in unsure.why
    assert judge([low], WEEKLY, None, {("fast", ""): "model"}).word == "quiet"
    assert judge([reading(5.1)], WEEKLY, None).word == "drifting"


def test_a_model_whose_vectors_are_partly_refused_is_not_called_quiet() -> None:
    refused = [reading(0.3, window, "dimension_changed") for window in ("fast", "slow")]
    found = judge(refused, WEEKLY, {})
    assert (found.word, found.why) == ("cannot tell", REASONS["dimension_changed"])
    drifting = [reading(9.0, window, "dimension_changed") for window in ("fast", "slow")]
    assert judge(drifting, WEEKLY, {}).word == "drifting"


def test_a_time_without_a_record_cannot_be_told() -> None:
    assert judge([], WEEKLY, {}).why == "nothing was recorded then"


def test_the_worst_sorts_first() -> None:
    states: list[Reading] = [
        reading(0.1),
        reading(None, state="no_baseline"),
        reading(None, state="stale"),
        reading(9.0),
        reading(90.0),
    ]
    ordered = sorted((judge([each], WEEKLY, {}) for each in states), key=lambda c: c.severity)
    assert [each.word for each in ordered] == ["drifting", *WORDS[1:]]
    assert ordered[0].worst is not None
    assert ordered[0].worst.score == 90.0


def test_a_past_row_is_read_like_a_window() -> None:
    row = HistoryRow("m", "slow", "ok", 9, 1, 2.0, 0.3, 0.2, 0.4, components={"mean": 1.0})
    assert Reading.past(row) == Reading("slow", "ok", 9, 2.0, 0.3, 0.2, 0.4, {"mean": 1.0})


def test_a_state_that_only_another_release_knows_cannot_be_told() -> None:
    row = HistoryRow("m", "fast", "paused", 9, 1)
    found = judge([Reading.past(row)], WEEKLY, {})
    why = "another release recorded the state paused"
    assert (found.word, found.why) == ("cannot tell", why)
    found = judge([Reading.past(replace(row, score=0.3))], WEEKLY, {})
    assert (found.word, found.why) == ("cannot tell", why)


def test_drift_of_a_changed_model_has_a_word_of_its_own_and_sorts_by_its_score() -> None:
    high, low = reading(20.0), reading(9.0)
    assert judge([high], WEEKLY, {}, {("fast", ""): "new content"}).word == "drifting"
    assert judge([high], WEEKLY, {}, {("slow", ""): "model"}).word == "drifting"
    changed = judge([low], WEEKLY, {}, {("fast", ""): "model"})
    assert (changed.word, changed.cause, changed.is_drift) == ("model changed", "model", True)
    assert judge([high], WEEKLY, {}).severity < changed.severity
    assert judge([reading(1.0)], WEEKLY, {}, {("fast", ""): "model"}).word == "quiet"


def test_every_cause_has_five_words_at_most() -> None:
    assert tuple(CAUSES) == KINDS
    assert all(1 <= len(words.split()) <= 5 for words in CAUSES.values())
