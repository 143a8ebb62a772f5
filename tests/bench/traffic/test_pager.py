"""The pager fires in the minutes in which Prometheus fires the rendered rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from bench.traffic.pager import Condition, Pager, Rule
from ingest.runtime.settings.settings import Settings
from ingest.runtime.thresholds import LASTING_SECONDS, SCORE, Stage

SUDDEN: dict[Stage, float] = {"provisional": 9, "daily": 5, "weekly": 5}
LASTING: dict[Stage, float] = {"provisional": 7, "daily": 3, "weekly": 3}
RULE = Rule((Condition(SUDDEN, 0), Condition(LASTING, 4)), keep_firing=2)

Scores = Sequence[float | None]
Agrees = Callable[[dict[str, list[float | None]], list[tuple[str, ...]]], None]


def fired(rule: Rule, stage: Stage = "weekly", **scores: Scores) -> list[tuple[str, ...]]:
    """Return the windows that fire in each minute."""
    pager = Pager(rule, scores)
    minutes = []
    for each in zip(*scores.values(), strict=True):
        pager.evaluate(dict(zip(scores, each, strict=True)), stage)
        minutes.append(pager.firing)
    return minutes


def test_the_shipped_rule_has_the_rendered_thresholds() -> None:
    rule = Rule.shipped(Settings())
    sudden, lasting = rule.conditions
    assert sudden.thresholds == {stage: each.sudden for stage, each in SCORE.items()}
    assert lasting.thresholds == {stage: each.lasting for stage, each in SCORE.items()}
    # Baselines mature by the same time.
    assert lasting.minutes == LASTING_SECONDS / 60
    text = (Path(__file__).parents[3] / "rules" / "drift.rules.yaml").read_text()
    for _, minutes in rule.conditions:
        assert f"embedding_drift_score:max[{minutes}m]" in text
    assert f"keep_firing_for: {rule.keep_firing}m" in text


def test_a_high_score_fires_at_once_and_for_as_long_as_it_is_kept_firing() -> None:
    assert fired(RULE, fast=[5, 6, 0, 0, 0]) == [(), ("fast",), ("fast",), ("fast",), ()]


def test_to_a_provisional_baseline_other_thresholds_apply() -> None:
    assert fired(RULE, "provisional", fast=[8, 8, 8, 8, 8]) == [()] * 4 + [("fast",)]
    assert fired(RULE, "provisional", fast=[6] * 9) == [()] * 9


def test_a_lasting_score_fires_after_its_minutes() -> None:
    assert fired(RULE, fast=[4] * 6) == [()] * 4 + [("fast",)] * 2
    assert fired(RULE, fast=[4, 4, 3, 4, 4, 4, 4]) == [()] * 7


def test_a_lasting_score_needs_a_score_at_its_begin_but_not_between() -> None:
    assert fired(RULE, fast=[4, 4, None, 4, 4])[-1] == ("fast",)
    rule = RULE._replace(keep_firing=0)
    assert fired(rule, fast=[4, None, 4, 4, 4, 4])[-2:] == [("fast",), ()]


def test_nothing_fires_while_no_window_has_a_score() -> None:
    rule = RULE._replace(keep_firing=0)
    assert fired(rule, fast=[4, 4, 4, 4, 4, None])[-2:] == [("fast",), ()]
    assert fired(rule, fast=[4, 4, 4, 4, 4, None], slow=[0] * 6)[-1] == ("fast",)


def test_a_copy_fires_like_the_original_and_goes_its_own_way() -> None:
    pager = Pager(RULE, ["fast"])
    for _ in range(4):
        pager.evaluate({"fast": 4}, "daily")
    other = pager.copy()
    other.evaluate({"fast": 4}, "daily")
    assert (pager.firing, other.firing) == ((), ("fast",))


def walk(random: np.random.Generator, minutes: int) -> list[float | None]:
    """Return scores that hover around the thresholds, change slowly, and are missing at times."""
    steps = random.normal(size=minutes)
    level = np.convolve(steps, np.ones(20) / 20**0.5, mode="same")
    scores = np.round(np.maximum(3.5 + 1.6 * level, 0), 2)
    return [
        None if minute % 97 in (3, 4, 5, 50) or minute % 230 > 200 else float(score)
        for minute, score in enumerate(scores)
    ]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_agrees_with_prometheus_minute_by_minute(seed: int, promtool_agrees: Agrees) -> None:
    random = np.random.default_rng(seed)
    scores = {"fast": walk(random, 900), "slow": walk(random, 900)}
    expected = fired(Rule.shipped(Settings()), **scores)
    assert {len(windows) for windows in expected} == {0, 1, 2}
    promtool_agrees(scores, expected)
