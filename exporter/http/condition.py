"""The condition of a model in one word, for people: is there drift, and if nobody can tell, why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Literal, get_args

from msgspec import UNSET

from exporter.explain.kinds import Kind
from exporter.monitor.report import Explanation, ListedSlice, ListedWindow, SliceWindow, Window
from exporter.monitor.states import UNMEASURED
from ingest.runtime.thresholds import Thresholds
from ingest.store.history import HistoryRow

Word = Literal["model changed", "drifting", "cannot tell", "learning", "quiet"]
WORDS: tuple[Word, ...] = get_args(Word)
"""All words, worst first."""

REASONS: Mapping[str, str] = {
    "ok": "measured",
    "not_followed": "its vectors are not followed",
    "no_baseline": "there is no baseline yet",
    "too_few_vectors": "too few vectors in the window",
    "stale": "no vectors for too long",
    "dimension_changed": "the vectors have another dimension now",
    "baseline_too_small": "the baseline has too few vectors",
    "baseline_constant": "the vectors of the baseline hardly differ",
}
"""What each state of a window means."""
CAUSES: Mapping[Kind, str] = {
    "none": "not known yet",
    "new content": "new content",
    "other mix": "known topics, other proportions",
    "foreign": "another encoder, language or domain",
    "model": "model or its input changed",
    "scale": "lengths changed, directions did not",
    "precision": "numbers are rounded more",
    "stuck": "same vectors again and again",
    "unknown": "not known",
}
"""Each cause of drift in five words at most."""
_OF_THE_MODEL: tuple[Kind, ...] = ("model", "scale", "precision")
"""Causes of the alert EmbeddingModelChanged."""
_LEARNING: tuple[str, ...] = ("no_baseline", "baseline_too_small")
_NO_AVERAGE = (
    "the score is high, and whether it has been for an hour is not known: PostgreSQL does not"
    " answer in time"
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the pages show of one window, now or at a past time.

    Attributes
    ----------
    window : str
    state : str
        A `State`, or one that another release has recorded.
    vectors : int
    score : float or None
    ratio, lower, upper : float or None
        Changed ratio, 0 to 1, and its interval.
    components : mapping of str to float
        Score of each component; empty unless drift was measured.
    slice : str
        ``key=value`` of the slice that it is about; empty for all vectors of the model.
    rise : float or None
        How much higher its scores are than a week before.
    ratio_at : datetime or None
        When the changed ratio was computed, which takes too long for every scrape.
    """

    window: str
    state: str
    vectors: int
    score: float | None
    ratio: float | None
    lower: float | None
    upper: float | None
    components: Mapping[str, float | None]
    slice: str = ""
    rise: float | None = None
    ratio_at: datetime | None = None

    @property
    def series(self) -> tuple[str, str]:
        """Its window and slice."""
        return self.window, self.slice

    @property
    def reason(self) -> str:
        """What the state means."""
        return REASONS.get(self.state, f"another release recorded the state {self.state}")

    @classmethod
    def of(cls, name: str, window: Window) -> Reading:
        """Read a window of a report."""
        ratio = None if window.magnitude is UNSET else window.magnitude
        return cls(
            name,
            window.state,
            window.vectors,
            None if window.score is UNSET else window.score,
            None if ratio is None else ratio.estimate,
            None if ratio is None else ratio.lower,
            None if ratio is None else ratio.upper,
            {} if window.components is UNSET else window.components,
            rise=None if window.rise is UNSET else window.rise,
            ratio_at=None if ratio is None else ratio.computed_at,
        )

    @classmethod
    def of_slice(cls, slice_name: str, name: str, window: SliceWindow) -> Reading:
        """Read a window of a slice of a report."""
        ratio = window.magnitude
        return cls(
            name,
            window.state,
            window.vectors,
            window.score,
            None if ratio is None else ratio.estimate,
            None if ratio is None else ratio.lower,
            None if ratio is None else ratio.upper,
            {},
            slice_name,
            window.rise,
            None if ratio is None else ratio.computed_at,
        )

    @classmethod
    def listed(cls, name: str, window: ListedWindow | ListedSlice) -> Reading:
        """Read a window of a list of models."""
        numbers = window.vectors, window.score, window.magnitude
        of_slice = window.slice if isinstance(window, ListedSlice) else ""
        return cls(name, window.state, *numbers, None, None, {}, of_slice, window.rise)

    @classmethod
    def past(cls, row: HistoryRow, of_slice: str = "") -> Reading:
        """Read a window, or a slice of it, as it was."""
        return cls(
            row.window_name,
            row.state,
            row.vectors,
            row.score,
            row.changed_ratio,
            row.changed_ratio_lower,
            row.changed_ratio_upper,
            row.components or {},
            of_slice,
        )


@dataclass(frozen=True, slots=True)
class Condition:
    """The condition of a model.

    Attributes
    ----------
    word : Word
    why : str or None
        Reason of a word other than quiet, and of drift that is not measured now.
    worst : Reading or None
        The window that the word is about; None if no window was read.
    is_watched : bool
        Whether an exporter follows the model now.
    cause : str or None
        Of the drift, if it is known.
    """

    word: Word
    why: str | None
    worst: Reading | None
    is_watched: bool = True
    cause: Kind | None = None

    @property
    def is_drift(self) -> bool:
        """Whether there is drift, whatever the cause."""
        return self.word in ("drifting", "model changed")

    @property
    def severity(self) -> tuple[int, float]:
        """A key that sorts the worst model first: drift by its score, then the other words."""
        score = 0.0 if self.worst is None or self.worst.score is None else self.worst.score
        return 0 if self.is_drift else WORDS.index(self.word), -score


def explained(found: Sequence[Explanation], of_slice: str = "") -> Condition | None:
    """Tell the condition of a model or slice by what was found out of its drift, if anything."""
    for each in found:
        if each.slice == of_slice:
            ratio, kind = each.changed_ratio, each.cause.kind
            interval = ratio.estimate, ratio.lower, ratio.upper
            reading = Reading(each.window, "ok", each.vectors, each.score, *interval, {}, of_slice)
            return Condition(_word(kind), None, reading, cause=kind)
    return None


def _word(cause: Kind | None) -> Word:
    return "model changed" if cause in _OF_THE_MODEL else "drifting"


def now(last: Condition, age: float | None, is_overdue: bool) -> Condition:
    """Tell the condition of a model now from that at its last check.

    Parameters
    ----------
    last : Condition
    age : float or None
        Seconds since the check; None if there was none.
    is_overdue : bool
        Whether checks are missing since.
    """
    if age is None:
        return Condition("cannot tell", "no exporter has checked it yet", last.worst, False)
    if is_overdue:
        why = f"no exporter has checked it for {duration(age)}; the last word was: {last.word}"
        return Condition("cannot tell", why, last.worst, False)
    return last


def duration(seconds: float) -> str:
    """Say how long something lasts, in one unit."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def judge(
    readings: Sequence[Reading],
    thresholds: Mapping[str, Thresholds],
    averages: Mapping[tuple[str, str], float] | None,
    causes: Mapping[tuple[str, str], Kind] = MappingProxyType({}),
    slices: Sequence[Reading] = (),
) -> Condition:
    """Judge a model by its windows, and then by those of its slices.

    Parameters
    ----------
    readings : sequence of Reading
        One of each window.
    thresholds : mapping of str to Thresholds
        Of each window.
    averages : mapping of (str, str) to float
        Average score of the last hour by window and slice, where it is known; None if the store
        does not answer.
    causes : mapping of (str, str) to str
        Cause of the drift by window and slice, where it is known.
    slices : sequence of Reading
        Those of slices.
    """
    for each in drifting(readings, thresholds, averages, causes)[:1]:
        cause = causes.get(each.series)
        return Condition(_word(cause), None, each, cause=cause)
    for each in drifting(slices, thresholds, averages, causes)[:1]:
        return Condition("drifting", None, each)
    if not readings:
        return Condition("cannot tell", "nothing was recorded then", None)
    for each in readings:
        if each.score is None and each.state in UNMEASURED and each.series in causes:
            why = f"as last measured; now {each.reason}"
            return Condition(_word(causes[each.series]), why, each, cause=causes[each.series])
    for each in _measured([*readings, *slices], thresholds) if averages is None else ():
        if (each.score or 0.0) > thresholds[each.window].lasting:
            return Condition("cannot tell", _NO_AVERAGE, each)
    measured = _measured(readings, thresholds)
    # A window may be measured although some of its vectors are refused: then quiet says too much.
    if measured and all(each.state == "ok" for each in measured):
        return Condition("quiet", None, measured[0])
    told = measured[0] if measured else readings[0]
    word: Word = "learning" if told.state in _LEARNING else "cannot tell"
    return Condition(word, told.reason, told)


def _is_drift(reading: Reading, limits: Thresholds, average: float) -> bool:
    score = reading.score or 0.0
    return (
        score > limits.sudden
        or (score > limits.lasting and average > limits.lasting)
        or (reading.rise or 0.0) > limits.rise
    )


def drifting(
    readings: Sequence[Reading],
    thresholds: Mapping[str, Thresholds],
    averages: Mapping[tuple[str, str], float] | None,
    causes: Mapping[tuple[str, str], Kind] = MappingProxyType({}),
) -> list[Reading]:
    """Return the readings that show drift, the worst first.

    Without averages, a high score lasts if the cause of its drift is known.
    """
    known = dict.fromkeys(causes, math.inf) if averages is None else averages
    return [
        each
        for each in _measured(readings, thresholds)
        if _is_drift(each, thresholds[each.window], known.get(each.series, 0.0))
    ]


def _measured(readings: Sequence[Reading], thresholds: Mapping[str, Thresholds]) -> list[Reading]:
    """Return the readings with a score, the worst first."""
    return sorted(
        (each for each in readings if each.score is not None),
        key=lambda each: (each.score or 0.0) - thresholds[each.window].sudden,
        reverse=True,
    )
