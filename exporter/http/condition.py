"""The condition of a model in one word, for people: is there drift, and if nobody can tell, why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from exporter.monitor.snapshot import SeriesSnapshot
from exporter.monitor.verdict import State
from ingest.runtime.thresholds import SCORE, Stage, Thresholds
from ingest.store.history import HistoryRow

Word = Literal["drifting", "cannot tell", "learning", "quiet"]
WORDS: tuple[Word, ...] = get_args(Word)
"""All words, worst first."""

REASONS: Mapping[State, str] = {
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
_LEARNING: tuple[State, ...] = ("no_baseline", "baseline_too_small")


@dataclass(frozen=True, slots=True)
class Reading:
    """What the pages show of one window, now or at a past time.

    Attributes
    ----------
    window : str
    state : State
    vectors : int
    score : float or None
    ratio, lower, upper : float or None
        Changed ratio, 0 to 1, and its interval.
    components : mapping of str to float
        Score of each component; empty unless drift was measured.
    slice : str
        ``key=value`` of the slice that it is about; empty for all vectors of the model.
    """

    window: str
    state: State
    vectors: int
    score: float | None
    ratio: float | None
    lower: float | None
    upper: float | None
    components: Mapping[str, float]
    slice: str = ""

    @classmethod
    def of(cls, each: SeriesSnapshot) -> Reading:
        """Read a window as it is now."""
        verdict, found = each.verdict, each.findings.magnitude
        measured, ratio = verdict.measurement, None if found is None else found.ratio
        return cls(
            each.series.window,
            verdict.state,
            verdict.vectors,
            None if measured is None else measured.score,
            None if ratio is None else ratio.estimate,
            None if ratio is None else ratio.lower,
            None if ratio is None else ratio.upper,
            {} if measured is None else measured.components,
            each.series.slice,
        )

    @classmethod
    def past(cls, row: HistoryRow) -> Reading:
        """Read a window as it was."""
        return cls(
            row.window_name,
            next(state for state in REASONS if state == row.state),
            row.vectors,
            row.score,
            row.changed_ratio,
            row.changed_ratio_lower,
            row.changed_ratio_upper,
            row.components or {},
        )


@dataclass(frozen=True, slots=True)
class Condition:
    """The condition of a model.

    Attributes
    ----------
    word : Word
    why : str or None
        Reason of a word other than drifting and quiet.
    worst : Reading or None
        The window that the word is about; None if no window was read.
    """

    word: Word
    why: str | None
    worst: Reading | None

    @property
    def severity(self) -> tuple[int, float]:
        """A key that sorts the worst model first."""
        score = 0.0 if self.worst is None or self.worst.score is None else self.worst.score
        return WORDS.index(self.word), -score


def limits(stage: Stage, watched: int) -> dict[str, Thresholds]:
    """Return the thresholds of each window, as the rules compute them for so many models.

    A slice counts as much as a model.
    """
    decades = math.log10(max(watched, 1))
    # An average of four windows needs a quarter of what a single window needs.
    lasting = {"fast": decades / 4, "slow": decades}
    return {
        window: Thresholds(each.sudden + decades, each.lasting + lasting[window])
        for window, each in SCORE[stage].items()
    }


def judge(
    readings: Sequence[Reading],
    thresholds: Mapping[str, Thresholds],
    averages: Mapping[str, float],
    slices: Sequence[Reading] = (),
) -> Condition:
    """Judge a model by its windows, and then by those of its slices.

    Parameters
    ----------
    readings : sequence of Reading
        One of each window.
    thresholds : mapping of str to Thresholds
        Of each window.
    averages : mapping of str to float
        Average score of the last hour by window, where it is known.
    slices : sequence of Reading
        Those of slices, whose averages are not known.
    """
    measured = _measured(readings, thresholds)
    for each in measured:
        limit = thresholds[each.window]
        if (each.score or 0.0) > limit.sudden or (
            averages.get(each.window, 0.0) > limit.lasting and (each.score or 0.0) > limit.lasting
        ):
            return Condition("drifting", None, each)
    for each in drifting(slices, thresholds)[:1]:
        return Condition("drifting", None, each)
    if not readings:
        return Condition("cannot tell", "nothing was recorded then", None)
    # A window may be measured although some of its vectors are refused: then quiet says too much.
    if measured and all(each.state == "ok" for each in measured):
        return Condition("quiet", None, measured[0])
    told = measured[0] if measured else readings[0]
    word: Word = "learning" if told.state in _LEARNING else "cannot tell"
    return Condition(word, REASONS[told.state], told)


def drifting(slices: Sequence[Reading], thresholds: Mapping[str, Thresholds]) -> list[Reading]:
    """Return the readings of slices whose score alone is drift, the worst first."""
    return [
        each
        for each in _measured(slices, thresholds)
        if (each.score or 0.0) > thresholds[each.window].sudden
    ]


def _measured(readings: Sequence[Reading], thresholds: Mapping[str, Thresholds]) -> list[Reading]:
    """Return the readings with a score, the worst first."""
    return sorted(
        (each for each in readings if each.score is not None),
        key=lambda each: (each.score or 0.0) - thresholds[each.window].sudden,
        reverse=True,
    )
