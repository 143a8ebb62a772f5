"""The pager fires in the minutes in which Prometheus fires the rendered rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from bench.traffic.pager import Condition, Pager, Rule, average, least
from exporter.monitor.states import UNMEASURED
from ingest.runtime.settings.settings import Settings
from ingest.runtime.thresholds import DRAINED_SECONDS, HELD_SECONDS, LASTING_SECONDS, SCORE, Stage


def by_window(scores: dict[Stage, float], slow: float = 0) -> dict[tuple[Stage, str], float]:
    return {
        (stage, window): score + (slow if window == "slow" else 0)
        for stage, score in scores.items()
        for window in ("fast", "slow")
    }


SUDDEN = by_window({"provisional": 9, "daily": 5, "weekly": 5})
LASTING = by_window({"provisional": 7, "daily": 3, "weekly": 3}, slow=1)
RULE = Rule(
    (Condition("score", least, SUDDEN, 0), Condition("score", average, LASTING, 4)), keep_firing=2
)

Scores = Sequence[float | None]
Agrees = Callable[..., None]


def fired(
    rule: Rule, stage: Stage = "weekly", rises: Scores = (), **scores: Scores
) -> list[tuple[str, ...]]:
    """Return the windows that fire in each minute; the rises are those of the slow window."""
    pager = Pager(rule, scores)
    minutes = []
    for minute, each in enumerate(zip(*scores.values(), strict=True)):
        rise = rises[minute] if rises else None
        risen = {} if rise is None else {"slow": rise}
        pager.evaluate(dict(zip(scores, each, strict=True)), stage, risen)
        minutes.append(pager.firing)
    return minutes


def test_the_shipped_rule_has_the_rendered_thresholds() -> None:
    rule = Rule.shipped(Settings())
    sudden, lasting, rise = rule.conditions
    for stage, windows in SCORE.items():
        for window, thresholds in windows.items():
            assert sudden.thresholds[stage, window] == thresholds.sudden
            assert lasting.thresholds[stage, window] == thresholds.lasting
            assert rise.thresholds[stage, window] == thresholds.rise
    # Baselines mature by the same time.
    assert lasting.minutes == LASTING_SECONDS / 60
    text = (Path(__file__).parents[3] / "rules" / "drift.rules.yaml").read_text()
    assert f"min_over_time(model_window:embedding_drift_score:max[{sudden.minutes}m])" in text
    assert (
        f"sum_over_time(model_window:embedding_drift_score:max[{lasting.minutes // 60}h])" in text
    )
    assert f"avg_over_time(model_window:embedding_drift_score:max[{lasting.recent}m])" in text
    assert (rise.series, rise.minutes, rise.recent) == ("rise", 2, 0)
    assert f"keep_firing_for: {rule.keep_firing}m" in text
    assert rule.unmeasured == UNMEASURED
    assert (rule.bridged, rule.held, rule.drained) == (5, HELD_SECONDS / 60, DRAINED_SECONDS / 60)


def test_a_high_score_fires_at_once_and_for_as_long_as_it_is_kept_firing() -> None:
    assert fired(RULE, fast=[5, 6, 0, 0, 0]) == [(), ("fast",), ("fast",), ("fast",), ()]


def test_to_a_provisional_baseline_other_thresholds_apply() -> None:
    assert fired(RULE, "provisional", fast=[8, 8, 8, 8, 8]) == [()] * 4 + [("fast",)]
    assert fired(RULE, "provisional", fast=[6] * 9) == [()] * 9


def test_the_average_of_a_lasting_score_counts() -> None:
    assert fired(RULE, fast=[4] * 6) == [()] * 4 + [("fast",)] * 2
    assert fired(RULE, fast=[2, 4, 4, 4, 2])[-1] == ("fast",)
    assert fired(RULE, fast=[3] * 9) == [()] * 9


def test_an_average_ends_soon_after_the_drift() -> None:
    lasting = Condition("score", average, LASTING, 4, recent=1)
    rule = Rule((lasting,), keep_firing=0)
    assert fired(rule, fast=[9, 9, 9, 9, 9, 4, 0, 0])[4:] == [("fast",)] * 2 + [()] * 2


def test_a_rise_counts_as_soon_as_it_lasts_for_the_minutes() -> None:
    rule = Rule((Condition("rise", least, LASTING, 1),), keep_firing=0)
    rises = [None, 4.5, 4.5, 4.5, 3.9, 4.5, 4.5]
    assert fired(rule, rises=rises, slow=[9] * 7) == (
        [()] * 2 + [("slow",)] * 2 + [()] * 2 + [("slow",)]
    )
    assert fired(rule, rises=rises, fast=[9] * 7) == [()] * 7


def test_each_window_has_its_threshold_of_a_lasting_score() -> None:
    assert fired(RULE, fast=[3.9] * 5, slow=[3.9] * 5)[-1] == ("fast",)
    assert fired(RULE, fast=[4.1] * 5, slow=[4.1] * 5)[-1] == ("fast", "slow")


def test_a_lasting_score_needs_a_score_at_its_begin_and_between_it_counts_as_0() -> None:
    assert fired(RULE, fast=[4, 4, None, 4, 4])[-1] == ("fast",)
    assert fired(RULE, fast=[4, None, None, 4, 4])[-1] == ()
    rule = RULE._replace(keep_firing=0)
    assert fired(rule, fast=[4, None, 4, 4, 4, 4])[-2:] == [("fast",), ()]


HELD = RULE._replace(unmeasured=frozenset({"too_few_vectors"}), bridged=1, held=99, drained=3)
FEW = {"fast": "too_few_vectors"}


def test_what_was_found_goes_on_while_the_window_is_not_measured() -> None:
    pager = Pager(HELD, ["fast"])
    pager.evaluate({"fast": 6}, "weekly")
    for _ in range(9):
        pager.evaluate({"fast": None}, "weekly", states=FEW)
        assert pager.firing == ("fast",)
    # One more minute is bridged, and then it is kept firing for two.
    for _ in range(3):
        pager.evaluate({"fast": None}, "weekly", states={"fast": "stale"})
        assert pager.firing == ("fast",)
    pager.evaluate({"fast": None}, "weekly", states={"fast": "stale"})
    assert pager.firing == ()


def test_what_was_found_goes_on_for_so_long_only() -> None:
    pager = Pager(HELD, ["fast"])
    pager.evaluate({"fast": 6}, "weekly")
    for _ in range(99 + 2):
        pager.evaluate({"fast": None}, "weekly", states=FEW)
        assert pager.firing == ("fast",)
    pager.evaluate({"fast": None}, "weekly", states=FEW)
    assert pager.firing == ()


def test_what_was_found_a_little_before_goes_on() -> None:
    pager = Pager(HELD, ["fast"])
    for score in (6, 0, 0):
        pager.evaluate({"fast": score}, "weekly")
    for _ in range(9):
        pager.evaluate({"fast": None}, "weekly", states=FEW)
        assert pager.firing == ("fast",)


def test_what_was_found_long_before_does_not_go_on_although_it_is_kept_firing() -> None:
    pager = Pager(HELD._replace(keep_firing=4), ["fast"])
    for score in (6, 0, 0, 0):
        pager.evaluate({"fast": score}, "weekly")
    for firing in [("fast",), ()]:
        pager.evaluate({"fast": None}, "weekly", states=FEW)
        assert pager.firing == firing


def test_another_baseline_ends_what_goes_on() -> None:
    pager = Pager(HELD, ["fast"])
    pager.evaluate({"fast": 6}, "weekly")
    pager.renew()
    for firing in [("fast",), ("fast",), ()]:
        pager.evaluate({"fast": None}, "weekly", states=FEW)
        assert pager.firing == firing


def test_nothing_fires_before_any_window_has_a_score() -> None:
    assert fired(RULE, fast=[None] * 6) == [()] * 6


def test_scores_against_a_provisional_baseline_do_not_fire_once_it_has_matured() -> None:
    pager = Pager(RULE._replace(keep_firing=0), ["fast"])
    for stage, score in [("provisional", 6)] * 6 + [("daily", 0.5)] * 4 + [("daily", 4)] * 3:
        pager.evaluate({"fast": score}, stage)  # type: ignore[arg-type]
        assert not pager.firing
    pager.evaluate({"fast": 4}, "daily")
    assert pager.firing == ("fast",)


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
    # No average is a threshold exactly.
    scores = np.round(np.maximum(3.5 + 1.6 * level, 0), 6)
    return [
        None if minute % 97 in (3, 4, 5, 50) or minute % 230 > 200 else float(score)
        for minute, score in enumerate(scores)
    ]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_agrees_with_prometheus_minute_by_minute(seed: int, promtool_agrees: Agrees) -> None:
    random = np.random.default_rng(seed)
    scores = {"fast": walk(random, 900), "slow": walk(random, 900)}
    expected = fired(Rule.shipped(Settings()), fast=scores["fast"], slow=scores["slow"])
    assert {len(windows) for windows in expected} == {0, 1, 2}
    promtool_agrees(scores, expected)


def test_it_agrees_with_prometheus_when_the_stage_changes(promtool_agrees: Agrees) -> None:
    scores: dict[str, list[float | None]] = {
        "fast": [12.0] * 80 + [None] * 5 + [0.5] * 65 + [4.0] * 30,
        "slow": [8.0] * 80 + [None] * 5 + [4.0] * 95,
    }
    stages: list[Stage] = ["provisional" if minute < 80 else "weekly" for minute in range(180)]
    pager = Pager(Rule.shipped(Settings()), scores)
    expected = []
    for minute, stage in enumerate(stages):
        pager.evaluate({name: each[minute] for name, each in scores.items()}, stage)
        expected.append(pager.firing)
    assert expected[59:61] == [(), ("fast",)]
    assert set(expected[110:139]) == {()}
    assert expected[145:150] == [("slow",)] * 5
    assert expected[-1] == ("fast", "slow")
    promtool_agrees(scores, expected, stages)


def test_it_agrees_with_prometheus_on_a_rise_over_the_week_before(
    promtool_agrees: Agrees,
) -> None:
    random = np.random.default_rng(0)
    scores = np.round(random.uniform(0.9, 1.1, 600), 6)
    scores[200:400] += 0.5
    rises = np.round(1 + np.convolve(random.normal(size=600), np.ones(9) / 9, mode="same"), 6)
    slow: list[float | None] = scores.tolist()
    risen: list[float | None] = rises.tolist()
    # A window without a score has no rise.
    slow[300:340] = risen[300:340] = [None] * 40
    risen[500:520] = [None] * 20
    risen[:50] = [None] * 50
    expected = fired(Rule.shipped(Settings()), rises=risen, slow=slow)
    assert {len(windows) for windows in expected} == {0, 1}
    promtool_agrees({"slow": slow}, expected, rises=risen)


def test_it_agrees_with_prometheus_while_windows_are_not_measured(
    promtool_agrees: Agrees,
) -> None:
    fast = ([0.5] * 15 + [None] * 45 + [6.0] * 15 + [None] * 45) * 2 + [0.5] * 15 + [None] * 165
    slow = [0.5] * 60 + [7.0] * 40 + [None] * 200 + [0.5] * 120
    scores: dict[str, list[float | None]] = {"fast": list(fast), "slow": list(slow)}
    states: dict[str, list[str | None]] = {
        name: ["ok" if score is not None else "too_few_vectors" for score in each]
        for name, each in scores.items()
    }
    # The exporter restarts, the model is stale, and another baseline is pinned.
    states["fast"][90:93] = states["slow"][90:93] = [None] * 3
    scores["fast"][90:93] = scores["slow"][90:93] = [None] * 3
    states["fast"][220:] = ["stale"] * 200
    # The vectors leave the window one by one.
    scores["fast"][190:195] = [4.0, 3.0, 2.0, 1.0, 0.5]
    states["slow"][130:150] = ["not_followed"] * 20
    pinned_at = [0 if minute < 260 else 15_600 for minute in range(420)]
    pager, expected = Pager(Rule.shipped(Settings()), scores), []
    for minute, known_since in enumerate(pinned_at):
        if minute and known_since != pinned_at[minute - 1]:
            pager.renew()
        pager.evaluate(
            {name: each[minute] for name, each in scores.items()},
            "weekly",
            states={name: state for name, each in states.items() if (state := each[minute])},
        )
        expected.append(pager.firing)
    assert expected[70] == expected[219] == expected[235] == ("fast", "slow")
    assert expected[250] == expected[270] == ("slow",)
    assert expected[290] == ()
    assert {len(windows) for windows in expected} == {0, 1, 2}
    promtool_agrees(scores, expected, states=states, pinned_at=pinned_at)


def test_it_agrees_with_prometheus_on_how_long_a_window_may_be_unmeasured(
    promtool_agrees: Agrees,
) -> None:
    fast: list[float | None] = [0.5] * 5 + [6.0] * 15 + [None] * 1_620
    states: dict[str, list[str | None]] = {"fast": ["too_few_vectors"] * len(fast)}
    pager, expected = Pager(Rule.shipped(Settings()), ["fast"]), []
    for score in fast:
        pager.evaluate({"fast": score}, "weekly", states={"fast": "too_few_vectors"})
        expected.append(pager.firing)
    # The last score was in minute 19.
    assert expected[19 + 1_560 + 15] == ("fast",)
    assert expected[19 + 1_560 + 16] == ()
    minutes = [*range(40), *range(1_560, len(expected))]
    promtool_agrees({"fast": fast}, {at: expected[at] for at in minutes}, states=states)
