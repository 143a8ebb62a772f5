"""Snapshots: everything known at one moment, as values that never change.

Pages, reports, metrics and examinations read a snapshot. So the numbers of one answer always belong
together, even while other threads change the state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from exporter.detector.exact import Exact
from exporter.detector.ratio import ChangedRatio
from exporter.monitor.baseline import Baseline
from exporter.monitor.following import Following, Reason
from exporter.monitor.forecast import Forecast
from exporter.monitor.maturing import Maturing
from exporter.monitor.ring import Arrivals
from exporter.monitor.rise import Rise
from exporter.monitor.series import Series
from exporter.monitor.slices import SlicesFinding, Slicing
from exporter.monitor.verdict import Revisions, Verdict
from exporter.monitor.windows import Limits
from exporter.stats.arrays import Vectors
from exporter.stats.quality import Quality
from ingest.runtime.worker import WorkStatus
from ingest.store.changes import ModelRow
from ingest.store.explanations import ExplanationRow
from ingest.store.shard import WHOLE, Shard
from ingest.store.standbys import Standbys

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Magnitude:
    """How much of a window has changed.

    Attributes
    ----------
    ratio : ChangedRatio
    computed_at : float
        Time of the store, in seconds since the epoch.
    """

    ratio: ChangedRatio
    computed_at: float


@dataclass(frozen=True, slots=True)
class Findings:
    """What the examinations found out about one series; None where there is nothing.

    Each field has the name of an examination.
    """

    quality: Quality | None = None
    magnitude: Magnitude | None = None
    exact: Exact | None = None
    forecast: Forecast | None = None
    rise: Rise | None = None
    slices: SlicesFinding | None = None


@dataclass(frozen=True, slots=True)
class SeriesSnapshot:
    """One series: its verdict, and the latest findings of the examinations.

    Attributes
    ----------
    series : Series
    limits : Limits
    verdict : Verdict
    findings : Findings
    revisions : Revisions
    explanation : ExplanationRow or None
        What changed, while it drifts; None until that is known.
    arrivals : Arrivals or None
        The vectors that the verdict is about, if they were asked for.
    """

    series: Series
    limits: Limits
    verdict: Verdict
    findings: Findings
    revisions: Revisions
    explanation: ExplanationRow | None = None
    arrivals: Arrivals | None = None

    @property
    def vectors(self) -> Vectors | None:
        """The vectors, shape (n, d), oldest first, if they were asked for."""
        return None if self.arrivals is None else self.arrivals.vectors

    @property
    def rise(self) -> float | None:
        """How much higher its scores are than a week before, if that is known."""
        found = self.findings.rise
        return None if found is None else found.by_slice.get(self.series.slice)


@dataclass(frozen=True, slots=True)
class ModelSnapshot:
    """One model: its row in the store, its baseline, and its series measured against it.

    Attributes
    ----------
    row : ModelRow
    baseline : Baseline or None
        None while there is no baseline.
    series : tuple of SeriesSnapshot
    computed_at : float
        Time of the store, in seconds since the epoch.
    following : Following
    not_followed : Reason or None
        Why the model is not followed; None while it is.
    maturing : Maturing or None
        What comes next for the baseline, if that is known.
    slicing : Slicing or None
        The slices of the baseline; None if there are none to watch, or they are not fitted yet.
    slices : tuple of SeriesSnapshot
        The series of the slices.
    slice_keys : tuple of str
        The keys by whose values the model may be divided now.
    """

    row: ModelRow
    baseline: Baseline | None
    series: tuple[SeriesSnapshot, ...]
    computed_at: float
    following: Following
    not_followed: Reason | None
    maturing: Maturing | None = None
    slicing: Slicing | None = None
    slices: tuple[SeriesSnapshot, ...] = ()
    slice_keys: tuple[str, ...] = ()

    def settled(self) -> ModelSnapshot:
        """Return it without what changes with every poll of the store.

        It equals that of an earlier moment if nothing has entered or left the windows, no
        examination has run, and no state has changed.
        """
        return replace(
            self,
            row=replace(self.row, now=_NEVER),
            computed_at=0.0,
            following=Following(0.0, behind=self.following.behind),
        )

    @property
    def watched(self) -> int:
        """Of the model and its slices, those with a score in a window.

        Like all others of the fleet, they share the rules' budget of false alarms.
        """
        every = (*self.series, *self.slices)
        return len({each.series.slice for each in every if each.verdict.measurement is not None})


@dataclass(frozen=True, slots=True)
class PollStatus:
    """How polling of the store goes.

    Attributes
    ----------
    up : bool
        Whether the last poll succeeded, and not too long ago: a poll may hang.
    timestamp : float or None
        When the last successful poll ended, in seconds since the epoch.
    duration : float or None
        Seconds that it took.
    failures : int
        Polls that failed, for all models or for one.
    rewinds : int
        Models that were reloaded because the store was set back.
    """

    up: bool = False
    timestamp: float | None = None
    duration: float | None = None
    failures: int = 0
    rewinds: int = 0


@dataclass(frozen=True, slots=True)
class ExaminationStatus:
    """How the last run of an examination went over all models.

    Attributes
    ----------
    success : bool
        Whether it succeeded for every model.
    duration : float
        Seconds that it took.
    """

    success: bool
    duration: float


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The whole exporter.

    Attributes
    ----------
    models : tuple of ModelSnapshot
    polls : PollStatus
    checks : WorkStatus
        A check is one round of all examinations that are due.
    check_interval : float or None
        Seconds between two checks; None if there are none.
    examinations : mapping of str to ExaminationStatus
        By name of the examination.
    shard : Shard
        The part of the models that this exporter follows.
    duration : float
        Seconds spent on computing the snapshot.
    missing : int
        Models that could not be judged. They are not in the snapshot, and in the log.
    has_words : bool
        Whether metrics may have the summaries of explanations.
    standbys : Standbys or None
        Of the primary, at the last check.
    """

    models: tuple[ModelSnapshot, ...]
    polls: PollStatus = field(default_factory=PollStatus)
    checks: WorkStatus = field(default_factory=WorkStatus)
    check_interval: float | None = None
    examinations: Mapping[str, ExaminationStatus] = field(default_factory=dict)
    shard: Shard = WHOLE
    duration: float = 0.0
    missing: int = 0
    has_words: bool = True
    standbys: Standbys | None = None
