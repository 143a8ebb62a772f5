"""The pager: the alert rule on the score, evaluated once a minute as Prometheus does."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib.resources import files
from statistics import fmean
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

import yaml

from ingest.runtime.settings.settings import Settings, WindowsSettings
from ingest.runtime.thresholds import STAGES, Stage
from rules.render import thresholds

ALERT = "EmbeddingDriftDetected"
_CONDITION = "model_window:embedding_drift_detected_score:max"
_ABOVE = r"\s*> on \(model_name, window\) group_left \(\)\s*"
_SUDDEN = re.compile(
    r"min_over_time\(model_window:embedding_drift_score:max\[(\d+)m\]\)"
    rf"{_ABOVE}max_over_time\(model_window:embedding_drift_score_sudden:threshold\[\1m\]\)"
)
_LASTING = re.compile(
    r"sum_over_time\(model_window:embedding_drift_score:max\[(\d+)h\]\)"
    r"\s*/ on \(\) group_left \(\)\s*count_over_time\("
    r'fleet:embedding_drift_score_lasting:threshold\{stage="weekly", window="fast"\}\[\1h\]\)'
    rf"{_ABOVE}max_over_time\(model_window:embedding_drift_score_lasting:threshold\[\1h\]\)"
    r"\s*and\s*avg_over_time\(model_window:embedding_drift_score:max\[(\d+)m\]\)"
    rf"{_ABOVE}model_window:embedding_drift_score_lasting:threshold\n"
)
_RISE = re.compile(
    r"min_over_time\(model_window:embedding_drift_score_rise:max\[(\d+)m\]\)"
    rf"{_ABOVE}max_over_time\(model_window:embedding_drift_score_rise:threshold\[\1m\]\)"
)
_UNMEASURED = "model_window:embedding_drift_unmeasured:max"
_STATE = re.compile(
    r'max_over_time\(embedding_drift_state\{state=~"([^"]+)", slice=""\}\[(\d+)m\]\)'
)
_MEASURED = re.compile(
    r'last_over_time\(model_window:embedding_drift_score:max\{slice=""\}\[(\d+)h\]\)'
)
_ONGOING = "model_window:embedding_drift_ongoing_score:max"
_DRAINED = re.compile(
    r"last_over_time\(model_window:embedding_drift_detected_score:max\[(\d+)m\]\)"
)
_HOUR = 60


Series = Literal["score", "rise"]
"""What is compared with a threshold: the score of a window, or its rise over the week before."""


def least(values: Sequence[float | None]) -> float:
    """Return the least of the values that are known, at least one."""
    return min(value for value in values if value is not None)


def average(values: Sequence[float | None]) -> float:
    """Return the average of values. One that is missing counts as 0."""
    return fmean(value or 0.0 for value in values)


class Condition(NamedTuple):
    """The least or the average of some minutes, above a threshold.

    If the stage of the baseline changes in these minutes, the higher threshold counts.

    Attributes
    ----------
    series : Series
    statistic : callable
        Of values, of which the first is known.
    thresholds : mapping of (stage, window) to float
    minutes : int
    recent : int
        The last minutes, whose average is above the present threshold, too.
    """

    series: Series
    statistic: Callable[[Sequence[float | None]], float]
    thresholds: Mapping[tuple[Stage, str], float]
    minutes: int
    recent: int = 0


class Rule(NamedTuple):
    """When `EmbeddingDriftDetected` fires for one model.

    Attributes
    ----------
    conditions : tuple of Condition
        One of them is enough.
    keep_firing : int
        Minutes for which it goes on firing when none holds any longer.
    unmeasured : frozenset of str
        States of a window without a score in which what was found goes on.
    bridged : int
        Minutes without a state for which it goes on, too.
    held : int
        Minutes without a score for which it goes on, at most.
    drained : int
        Minutes before the first of these in which it was found last, at most.
    """

    conditions: tuple[Condition, ...]
    keep_firing: int
    unmeasured: frozenset[str] = frozenset()
    bridged: int = 0
    held: int = 0
    drained: int = 0

    @classmethod
    def shipped(cls, settings: Settings) -> Rule:
        """Read the thresholds and the durations that these settings render into the rules."""
        recorded: dict[tuple[str, str, str | None], float] = {}
        for rule in _rules(thresholds(settings)):
            labels = rule.get("labels", {})
            key = rule["record"], labels.get("stage"), labels.get("window")
            recorded[key] = float(rule["expr"].removeprefix("vector(").removesuffix(")"))
        source = files("rules").joinpath("drift.rules.yaml").read_text(encoding="utf-8")
        rules = list(_rules(yaml.safe_load(source)))
        [alert] = (rule for rule in rules if rule.get("alert") == ALERT)
        [condition] = (rule["expr"] for rule in rules if rule.get("record") == _CONDITION)
        [minutes] = _SUDDEN.findall(condition)
        [(hours, recent)] = _LASTING.findall(condition)
        name = "fleet:embedding_drift_score_{}:threshold"
        each = [(stage, window) for stage in STAGES for window in WindowsSettings.model_fields]
        sudden = {(s, w): recorded[name.format("sudden"), s, w] for s, w in each}
        lasting = {(s, w): recorded[name.format("lasting"), s, w] for s, w in each}
        [risen] = _RISE.findall(condition)
        rise = {(s, w): recorded.get((name.format("rise"), s, w), math.inf) for s, w in each}
        conditions = (
            Condition("score", least, sudden, int(minutes)),
            Condition("score", average, lasting, _HOUR * int(hours), int(recent)),
            Condition("rise", least, rise, int(risen)),
        )
        [unmeasured] = (rule["expr"] for rule in rules if rule.get("record") == _UNMEASURED)
        [(states, bridged)] = _STATE.findall(unmeasured)
        [held] = _MEASURED.findall(unmeasured)
        [ongoing] = (rule["expr"] for rule in rules if rule.get("record") == _ONGOING)
        [drained] = _DRAINED.findall(ongoing)
        return cls(
            conditions,
            int(alert["keep_firing_for"].removesuffix("m")),
            frozenset(states.split("|")),
            int(bridged),
            _HOUR * int(held),
            int(drained),
        )


def _rules(document: dict[str, Any]) -> Iterable[dict[str, Any]]:
    return (rule for group in document["groups"] for rule in group["rules"])


class Pager:
    """Evaluates the rule for the windows of one model.

    The windows' alerts are one page, because Alertmanager groups by model: a page lasts as long as
    the alert of any window fires.

    Parameters
    ----------
    rule : Rule
    windows : collection of str
    """

    def __init__(self, rule: Rule, windows: Collection[str]) -> None:
        self._rule = rule
        samples = 1 + max(max(each.minutes, each.recent) for each in rule.conditions)
        self._held: dict[tuple[Series, str], list[float | None]] = {
            (series, name): [None] * samples for name in windows for series in get_args(Series)
        }
        self._stages: list[Stage | None] = [None] * samples
        self._unmeasured = {name: [False] * (1 + rule.bridged) for name in windows}
        self._unscored = dict.fromkeys(windows, 0)
        self._detected = {name: [False] * (1 + rule.drained) for name in windows}
        self._ongoing = dict.fromkeys(windows, False)
        self._left = dict.fromkeys(windows, 0)

    @property
    def firing(self) -> tuple[str, ...]:
        """The windows whose alert fires."""
        return tuple(name for name, left in self._left.items() if left)

    def evaluate(
        self,
        scores: Mapping[str, float | None],
        stage: Stage,
        rises: Mapping[str, float] = MappingProxyType({}),
        states: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Evaluate the rule a minute later.

        Parameters
        ----------
        scores : mapping of str to float or None
            The new score of each window.
        stage : Stage
            Of the baseline in use.
        rises : mapping of str to float
            How much higher the scores of a window are than a week before, where it is known.
        states : mapping of str to str
            State of each window, where it is known.
        """
        # Of a single model, the threshold is recorded only while a window of it has a score.
        is_known = any(score is not None for score in scores.values())
        self._stages.append(stage if is_known else None)
        del self._stages[0]
        for (series, name), held in self._held.items():
            held.append(scores[name] if series == "score" else rises.get(name))
            del held[0]
        for name in self._left:
            unmeasured = self._unmeasured[name]
            unmeasured.append(states.get(name) in self._rule.unmeasured)
            del unmeasured[0]
            unscored = self._unscored[name] + 1 if scores[name] is None else 0
            self._unscored[name] = unscored
            goes_on = 0 < unscored <= self._rule.held and any(unmeasured)
            detected = self._detected[name]
            detected.append(self._holds(name))
            del detected[0]
            found = self._ongoing[name] or any(detected)
            self._ongoing[name] = detected[-1] or (found and goes_on)
            if self._ongoing[name]:
                # Plus one: this minute, too.
                self._left[name] = self._rule.keep_firing + 1
            elif self._left[name]:
                self._left[name] -= 1

    def renew(self) -> None:
        """Let nothing go on that was found against the baseline before."""
        self._detected = {name: [False] * len(each) for name, each in self._detected.items()}
        self._ongoing = dict.fromkeys(self._ongoing, False)

    def _holds(self, window: str) -> bool:
        for series, statistic, of_stage, minutes, recent in self._rule.conditions:
            held = self._held[series, window]
            if held[-1 - minutes] is None:
                continue
            value = statistic(held[-1 - minutes :])
            stages = {stage for stage in self._stages[-1 - minutes :] if stage}
            if value <= max((of_stage[stage, window] for stage in stages), default=math.inf):
                continue
            if not recent:
                return True
            newest = [value for value in held[-1 - recent :] if value is not None]
            stage = self._stages[-1]
            if newest and stage and fmean(newest) > of_stage[stage, window]:
                return True
        return False

    def copy(self) -> Pager:
        """Return another pager in the same state."""
        other = Pager(self._rule, ())
        other._held = {key: held.copy() for key, held in self._held.items()}
        other._stages = self._stages.copy()
        other._unmeasured = {name: each.copy() for name, each in self._unmeasured.items()}
        other._unscored = dict(self._unscored)
        other._detected = {name: each.copy() for name, each in self._detected.items()}
        other._ongoing = dict(self._ongoing)
        other._left = dict(self._left)
        return other
