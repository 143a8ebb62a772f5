"""The pager: the alert rule on the score, evaluated once a minute as Prometheus does."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any, NamedTuple

import yaml

from ingest.runtime.settings.settings import Settings
from ingest.runtime.thresholds import STAGES, Stage
from rules.render import thresholds

ALERT = "EmbeddingDriftDetected"
_CONDITION = re.compile(
    r"model_window:embedding_drift_score:max\[(\d+)m\]\)"
    r"\s*> on \(model_name\) group_left \(\) model:(\w+):threshold"
)


class Condition(NamedTuple):
    """A score above the threshold of the baseline's stage in every sample of some minutes."""

    thresholds: Mapping[Stage, float]
    minutes: int


class Rule(NamedTuple):
    """When `EmbeddingDriftDetected` fires for one model.

    Attributes
    ----------
    conditions : tuple of Condition
        One of them is enough.
    keep_firing : int
        Minutes for which it goes on firing when none holds any longer.
    """

    conditions: tuple[Condition, ...]
    keep_firing: int

    @classmethod
    def shipped(cls, settings: Settings) -> Rule:
        """Read the thresholds and the durations that these settings render into the rules."""
        recorded = {
            (rule["record"], rule.get("labels", {}).get("stage")): float(
                rule["expr"].removeprefix("vector(").removesuffix(")")
            )
            for rule in _rules(thresholds(settings))
        }
        source = files("rules").joinpath("drift.rules.yaml").read_text(encoding="utf-8")
        [alert] = (rule for rule in _rules(yaml.safe_load(source)) if rule.get("alert") == ALERT)
        conditions = tuple(
            Condition(
                {stage: recorded[f"fleet:{name}:threshold", stage] for stage in STAGES},
                int(minutes),
            )
            for minutes, name in _CONDITION.findall(alert["expr"])
        )
        return cls(conditions, int(alert["keep_firing_for"].removesuffix("m")))


def _rules(document: dict[str, Any]) -> Iterable[dict[str, Any]]:
    return (rule for group in document["groups"] for rule in group["rules"])


class Pager:
    """Evaluates the rule for the windows of one model.

    The windows' alerts are one page, because Alertmanager groups by model: a page lasts as long as
    the alert of any window fires.

    Parameters
    ----------
    rule : Rule
    windows : iterable of str
    """

    def __init__(self, rule: Rule, windows: Iterable[str]) -> None:
        self._rule = rule
        samples = 1 + max(condition.minutes for condition in rule.conditions)
        self._scores: dict[str, deque[float | None]] = {
            name: deque([None] * samples, samples) for name in windows
        }
        self._left = dict.fromkeys(self._scores, 0)

    @property
    def firing(self) -> tuple[str, ...]:
        """The windows whose alert fires."""
        return tuple(name for name, left in self._left.items() if left)

    def evaluate(self, scores: Mapping[str, float | None], stage: Stage) -> None:
        """Evaluate the rule a minute later, with the new score of each window or None.

        ``stage`` is that of the baseline in use.
        """
        # The threshold of a model is recorded only while a window of it has a score.
        is_known = any(score is not None for score in scores.values())
        for name, held in self._scores.items():
            held.append(scores[name])
            if is_known and self._holds(held, stage):
                # Plus one: this minute, too.
                self._left[name] = self._rule.keep_firing + 1
            elif self._left[name]:
                self._left[name] -= 1

    def _holds(self, held: deque[float | None], stage: Stage) -> bool:
        for of_stage, minutes in self._rule.conditions:
            lasting = list(held)[-1 - minutes :]
            # The first sample is required; a later one that is missing is passed over.
            known = [score for score in lasting if score is not None]
            if lasting[0] is not None and min(known) > of_stage[stage]:
                return True
        return False

    def copy(self) -> Pager:
        """Return another pager in the same state."""
        other = Pager(self._rule, ())
        other._scores = {name: held.copy() for name, held in self._scores.items()}
        other._left = dict(self._left)
        return other
