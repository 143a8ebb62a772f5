"""The pager fires in the minutes in which Prometheus fires the rendered rule."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml

from bench.traffic.pager import ALERT, Pager, Rule
from ingest.runtime.settings.settings import Settings
from rules.render import SCORE_LASTING, SCORE_SUDDEN, render

RULE = Rule(sudden=5, lasting=3, minutes=4, keep_firing=2)

Scores = Sequence[float | None]


def fired(rule: Rule, **scores: Scores) -> list[tuple[str, ...]]:
    """Return the windows that fire in each minute."""
    pager = Pager(rule, scores)
    minutes = []
    for each in zip(*scores.values(), strict=True):
        pager.evaluate(dict(zip(scores, each, strict=True)))
        minutes.append(pager.firing)
    return minutes


def test_the_shipped_rule_has_the_rendered_thresholds() -> None:
    rule = Rule.shipped(Settings())
    assert (rule.sudden, rule.lasting) == (SCORE_SUDDEN, SCORE_LASTING)
    text = (Path(__file__).parents[3] / "rules" / "drift.rules.yaml").read_text()
    assert f"min_over_time(model_window:embedding_drift_score:max[{rule.minutes}m])" in text
    assert f"keep_firing_for: {rule.keep_firing}m" in text


def test_a_high_score_fires_at_once_and_for_as_long_as_it_is_kept_firing() -> None:
    assert fired(RULE, fast=[5, 6, 0, 0, 0]) == [(), ("fast",), ("fast",), ("fast",), ()]


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
        pager.evaluate({"fast": 4})
    other = pager.copy()
    other.evaluate({"fast": 4})
    assert (pager.firing, other.firing) == ((), ("fast",))


def walk(random: np.random.Generator, minutes: int) -> list[float | None]:
    """Return scores that hover around the thresholds, change slowly, and are missing at times."""
    steps = random.normal(size=minutes)
    level = np.convolve(steps, np.ones(20) / 20**0.5, mode="same")
    scores = np.round(np.maximum(2.6 + 1.3 * level, 0), 2)
    return [
        None if minute % 97 in (3, 4, 5, 50) or minute % 230 > 200 else float(score)
        for minute, score in enumerate(scores)
    ]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_agrees_with_prometheus_minute_by_minute(
    seed: int, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    random = np.random.default_rng(seed)
    scores = {"fast": walk(random, 900), "slow": walk(random, 900)}
    expected = fired(Rule.shipped(Settings()), **scores)
    assert {len(windows) for windows in expected} == {0, 1, 2}
    assert promtool_agrees(scores, expected, tmp_path, tool("promtool"))


def promtool_agrees(
    scores: dict[str, list[float | None]],
    expected: list[tuple[str, ...]],
    folder: Path,
    promtool: str,
) -> bool:
    """Whether the rendered rules fire for these windows in each minute."""
    render(Settings(), folder)
    series = [
        {
            "series": f'embedding_drift_score{{model_name="docs", window="{name}"}}',
            # A series that a scrape no longer has gets a stale marker.
            "values": " ".join("stale" if score is None else str(score) for score in each),
        }
        for name, each in scores.items()
    ]
    firing = f'count by (window) (ALERTS{{alertname="{ALERT}", alertstate="firing"}})'
    tests = [
        {
            "expr": firing,
            "eval_time": f"{minute}m",
            "exp_samples": [
                {"labels": f'{{window="{name}"}}', "value": 1} for name in sorted(windows)
            ],
        }
        for minute, windows in enumerate(expected)
    ]
    example = {
        "rule_files": ["thresholds.rules.yaml", "drift.rules.yaml"],
        "evaluation_interval": "1m",
        "group_eval_order": ["embedding-drift-thresholds", "embedding-drift"],
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": tests}],
    }
    (folder / "example.yaml").write_text(yaml.safe_dump(example))
    command = [promtool, "test", "rules", "example.yaml"]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    print(answer.stdout[:2_000], answer.stderr[:2_000])
    return answer.returncode == 0
