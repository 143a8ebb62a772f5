"""The page of one model: its condition, what changed, its past, its windows and its baseline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from msgspec import UNSET

from exporter.explain.kinds import Kind
from exporter.http import charts, condition, islands
from exporter.http.condition import (
    CAUSES,
    Condition,
    Reading,
    drifting,
    judge,
)
from exporter.http.rendering import TEMPLATES, as_moment, as_score, as_share, heading, since
from exporter.monitor.privacy import Permits
from exporter.monitor.recorded import is_readable
from exporter.monitor.report import COMPONENTS, Drift, Explanation, SliceWindow, Window
from ingest.runtime.thresholds import UNLIKE, Stage, Thresholds, of_fleet
from ingest.store.baselines import Version
from ingest.store.explanations import ExplanationRow
from ingest.store.history import HistoryRow, Point
from ingest.store.slice_history import SlicedRow

Range = Literal["1h", "6h", "24h", "7d", "30d"]
RANGES: Mapping[Range, int] = {
    "1h": 3_600,
    "6h": 21_600,
    "24h": 86_400,
    "7d": 604_800,
    "30d": 2_592_000,
}
"""Seconds that a timeline may show."""
_SUGGESTED = (
    "In the last week neither the model nor a slice drifted, but the score of the slow window was"
    f" above {UNLIKE:g} on average. Without drift this average is about 0.4. So that week is a"
    " little unlike the baseline, too little for an alert. If you do not want its traffic, look for"
    " what changed slowly."
)
_POINTS = 360
MOST_DRIFTS = 50
"""Drifts that a timeline shows, at most."""
_NAMED = 3
"""Slices that the headline names, at most."""


@dataclass(frozen=True, slots=True)
class Past:
    """What the store knows of one model.

    Attributes
    ----------
    points : sequence of Point
    averages : mapping of (str, str) to float
        Average score of the last hour by window and slice, which is empty for all vectors.
    rows : sequence of HistoryRow
        The last of each window; empty unless a past time was asked for.
    sliced : sequence of (str, HistoryRow)
        The same of slices, by name.
    versions : sequence of Version
    explained : sequence of Explanation
        What was known at the past time; empty unless one was asked for.
    drifts : sequence of PastDrift
        Those that the timeline shows, the newest first.
    maps : mapping of str to mapping
        The maps of what is explained, by window, as the store has them.
    """

    points: Sequence[Point]
    averages: Mapping[tuple[str, str], float]
    rows: Sequence[HistoryRow]
    versions: Sequence[Version]
    explained: Sequence[Explanation] = ()
    drifts: Sequence[PastDrift] = ()
    maps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sliced: Sequence[SlicedRow] = ()


class PastDrift(NamedTuple):
    """A drift of one window. Times are in seconds since the epoch.

    Attributes
    ----------
    window, slice : str
    began_at, seen_at : float
        When it began, and when it was last seen.
    explained_at : float
        When it was last explained.
    summary : str or None
        None if it says more than the settings allow, or another release stored it.
    """

    window: str
    slice: str
    began_at: float
    seen_at: float
    explained_at: float
    summary: str | None


def drifts(rows: Iterable[ExplanationRow], permits: Permits) -> list[PastDrift]:
    """Return the drifts that these explanations belong to, one of each."""
    return [
        PastDrift(
            row.window_name,
            row.slice,
            row.began_at,
            row.seen_at,
            row.explained_at,
            row.summary
            if is_readable(row) and permits(row.told["texts"], row.told["metadata_keys"])
            else None,
        )
        for row in rows
    ]


class View(NamedTuple):
    """What of a model is shown.

    Attributes
    ----------
    range : str
        How far back the timeline goes.
    at : float or None
        A past time, in seconds since the epoch.
    slice : str
        ``key=value`` of the vectors that are shown; empty for all.
    """

    range: Range = "24h"
    at: float | None = None
    slice: str = ""

    @property
    def stretch(self) -> int:
        """Seconds of each point of the timeline."""
        return max(RANGES[self.range] // _POINTS, 1)


def render_model(model: Drift, view: View, past: Past | None, watched: int) -> str:
    """Build the page at ``/drift/{model_name}``.

    Parameters
    ----------
    model : Drift
    view : View
    past : Past or None
        None if the store does not answer.
    watched : int
        Number of models and slices, by which the thresholds grow.
    """
    name, baseline = model.model_name, model.baseline
    stage: Stage = "provisional" if baseline is None else baseline.stage
    readings = [Reading.of("fast", model.windows.fast), Reading.of("slow", model.windows.slow)]
    slices = list(_sliced(model))
    if view.at is not None:
        rows, sliced = ((), ()) if past is None else (past.rows, past.sliced)
        readings = [Reading.past(row) for row in rows]
        slices = [Reading.past(row, of_slice) for of_slice, row in sliced]
        known = None if baseline is None else baseline.version
        if any(row.baseline_version != known for row in (*rows, *(row for _, row in sliced))):
            stage = "provisional"
    thresholds = of_fleet(stage, watched)
    explained = known_now(model) if view.at is None else [] if past is None else past.explained
    if view.slice:
        readings, slices = [each for each in slices if each.slice == view.slice], []
        explained = [each for each in explained if each.slice == view.slice]
    causes: dict[tuple[str, str], Kind] = {
        (each.window, each.slice): each.cause.kind for each in explained
    }
    averages = None if past is None else past.averages
    found = judge(readings, thresholds, averages, causes, slices)
    if view.at is None:
        if not readings:
            found = Condition("cannot tell", "the slice is not measured now", None)
        found = condition.now(found, model.age, model.overdue)
    elif not found.is_drift:
        # The check before may be older than the drift.
        found = condition.explained(explained, view.slice) or found
    measured = [each for each in readings if each.components]
    is_whole_now = view.at is None and not view.slice
    is_suggested = view.at is None and found.word == "quiet" and _is_suggested(model)
    until = model.computed_at.timestamp() if view.at is None else view.at
    shown_at = None if view.at is None else datetime.fromtimestamp(view.at, UTC)
    return TEMPLATES.get_template("model.html").render(
        name=name,
        slice=view.slice,
        slice_query=f"&slice={quote(view.slice, safe='')}" if view.slice else "",
        path=quote(name, safe=""),
        condition=found,
        headline=_headline(
            found, view, past, thresholds, drifting(slices, thresholds, averages, causes)
        ),
        runbook=heading(found),
        checked_at=f"{model.computed_at:%Y-%m-%d %H:%M:%S} UTC",
        age=condition.duration(model.age) if model.age and view.at is None else "",
        explained=[_told(each, until, {} if past is None else past.maps) for each in explained],
        width=islands.WIDTH,
        height=islands.HEIGHT,
        drifts=[] if past is None else [_listed_drift(each) for each in past.drifts],
        at=None if shown_at is None else f"{shown_at:%Y-%m-%d %H:%M:%S} UTC",
        at_query="" if shown_at is None else f"&at={shown_at:%Y-%m-%dT%H:%M:%SZ}",
        not_followed=_not_followed(model) if view.at is None else None,
        range=view.range,
        ranges=list(RANGES),
        drawn=None if past is None else _drawn(view, past, thresholds, until),
        readings=readings,
        measured=measured,
        components=list(COMPONENTS.items()) if measured else [],
        slices=_slices(model, slices, thresholds, averages, causes)
        if is_whole_now
        else _judged(slices, thresholds, averages, causes),
        folded=model.slices_folded if is_whole_now else 0,
        qualities=_qualities(model) if is_whole_now else [],
        canaries=_canaries(model) if is_whole_now else None,
        baseline=_baseline(model, is_suggested),
        suggested=is_suggested,
        versions=() if past is None else past.versions,
    )


def known_now(model: Drift) -> list[Explanation]:
    """Return what is known of the windows and of the slices that drift."""
    return [each.explanation for each in windows(model) if each.explanation is not UNSET]


def windows(model: Drift) -> list[Window | SliceWindow]:
    """Return the windows of a model and of its slices."""
    of_slices = (window for _, _, window in windows_of_slices(model))
    return [model.windows.fast, model.windows.slow, *of_slices]


def _told(told: Explanation, now: float, maps: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the page tells of a window that drifts."""
    drawn = None if told.slice else maps.get(told.window)
    minutes = max(now - told.explained_at.timestamp(), 0.0) / 60
    return {
        "window": told.window,
        "slice": told.slice,
        "query": quote(told.slice, safe=""),
        "summary": told.summary,
        "began_at": told.began_at,
        "explained_at": told.explained_at,
        "age": "just now" if minutes < 1 else f"{minutes:,.0f} min before",
        "cause": CAUSES[told.cause.kind],
        "evidence": told.cause.evidence,
        "metadata": told.metadata,
        "groups": told.groups,
        "map": None if drawn is None else islands.chart(drawn, told.groups),
        "has_texts": any(each.text for group in told.groups for each in group.examples),
    }


def _listed_drift(drift: PastDrift) -> dict[str, Any]:
    began, seen, at = (
        datetime.fromtimestamp(moment, UTC)
        for moment in (drift.began_at, drift.seen_at, drift.explained_at)
    )
    return {
        "window": drift.window,
        "slice": drift.slice,
        "query": f"&slice={quote(drift.slice, safe='')}" if drift.slice else "",
        "began_at": began,
        "seen_at": seen,
        # A second later, so that the explanation is not after it.
        "at": f"{at + timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}",
        "summary": drift.summary,
    }


def _headline(
    condition: Condition,
    view: View,
    past: Past | None,
    thresholds: Mapping[str, Thresholds],
    drifting: Sequence[Reading],
) -> str:
    worst = condition.worst
    if worst is None or worst.score is None:
        return ""
    whose = f" of {worst.slice}" if worst.slice else ""
    parts = [f"The score of the {worst.window} window{whose} is {as_score(worst.score)}"]
    if worst.rise is not None and worst.rise > thresholds[worst.window].rise:
        parts.append(
            f"its average of 8 hours is {worst.rise:.1f} higher than in the last week without drift"
        )
    # The ratio may be from a check before the drift began: "at least 0%" would mislead.
    if worst.lower is not None and round(worst.lower, 2) > 0 and condition.is_drift:
        parts.append(
            f"at least {worst.lower:.0%} of its {worst.vectors} vectors are unlike the baseline"
        )
    names = list(dict.fromkeys(each.slice for each in drifting))
    if names and names != [worst.slice]:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        parts.append(f"slices that drift: {', '.join(names[:_NAMED])}{more}")
    # The points of the whole model say nothing of a slice.
    if condition.is_drift and past is not None and worst.slice == view.slice:
        samples = [(p.at, p.score) for p in past.points if p.window_name == worst.window]
        if (began := since(samples, thresholds[worst.window].lasting)) is not None:
            parts.append(f"it has drifted since {began}")
    return "; ".join(parts) + "."


def _drawn(
    view: View, past: Past, thresholds: Mapping[str, Thresholds], until: float
) -> dict[str, dict[str, Any]]:
    since = until - RANGES[view.range]
    pins = [
        (each.pinned_at.timestamp(), f"baseline {each.version}")
        for each in past.versions
        if since <= each.pinned_at.timestamp() <= until
    ]
    drawn: dict[str, dict[str, Any]] = {}
    for chart in ("score", "ratio"):
        lines = {
            window: [
                (p.at, p.score if chart == "score" else p.changed_ratio)
                for p in past.points
                if p.window_name == window
            ]
            for window in ("fast", "slow")
        }
        values = [value for samples in lines.values() for _, value in samples if value is not None]
        limited = (
            [(window, each.sudden) for window, each in thresholds.items()]
            if chart == "score"
            else []
        )
        is_score = chart == "score"
        frame = charts.frame([*values, *(limit for _, limit in limited)], since, until, is_score)
        most = max(values, default=None)
        shown = as_score(most) if is_score else as_share(most)
        drawn[chart] = {
            "ticks": frame.values(),
            "times": frame.times(),
            "drifts": [
                (each.window, frame.x(each.began_at), frame.x(each.seen_at))
                for each in past.drifts
                if each.slice == view.slice
            ],
            "pins": [charts.Tick(frame.x(at), label) for at, label in pins],
            "limits": [(window, frame.y(limit)) for window, limit in limited],
            "lines": [
                (window, frame.path(samples, max(4 * view.stretch, 1_200)))
                for window, samples in lines.items()
            ],
            "summary": f"highest {shown}" if values else "nothing was measured",
        }
    return drawn


def _sliced(model: Drift) -> Iterator[Reading]:
    """Read the windows of the slices."""
    for name, window, told in windows_of_slices(model):
        yield Reading.of_slice(name, window, told)


def windows_of_slices(model: Drift) -> Iterator[tuple[str, str, SliceWindow]]:
    """Yield the name of each slice, that of each of its windows, and the window."""
    for key in model.slices:
        for value in key.values:
            if value.windows is not None:
                windows = {"fast": value.windows.fast, "slow": value.windows.slow}
                for window, told in windows.items():
                    if told is not None:
                        yield f"{key.key}={value.value}", window, told


def _slices(
    model: Drift,
    readings: Sequence[Reading],
    thresholds: Mapping[str, Thresholds],
    averages: Mapping[tuple[str, str], float] | None,
    causes: Mapping[tuple[str, str], Kind],
) -> list[dict[str, Any]]:
    """Describe each value whose share is known, and its slice if it has one."""
    judged = {each["name"]: each for each in _judged(readings, thresholds, averages, causes)}
    unjudged = {
        "query": "",
        "scores": [None for _ in thresholds],
        "word": None,
        "why": "too few vectors in the baseline",
    }
    return [
        {**judged.get(name, unjudged), "name": name, "share": value}
        for key in model.slices
        for value in key.values
        for name in [f"{key.key}={value.value}"]
    ]


def _judged(
    readings: Sequence[Reading],
    thresholds: Mapping[str, Thresholds],
    averages: Mapping[tuple[str, str], float] | None,
    causes: Mapping[tuple[str, str], Kind],
) -> list[dict[str, Any]]:
    """Describe each slice by the readings of its windows."""
    of_slice: dict[str, list[Reading]] = {}
    for each in readings:
        of_slice.setdefault(each.slice, []).append(each)
    rows = []
    for name, found in of_slice.items():
        judged = judge(found, thresholds, averages, causes)
        scores = {reading.window: reading.score for reading in found}
        rows.append(
            {
                "name": name,
                "query": quote(name, safe=""),
                "scores": [scores.get(window) for window in thresholds],
                "word": judged.word,
                "why": judged.why,
            }
        )
    return rows


def _qualities(model: Drift) -> list[tuple[str, Any]]:
    found = [("fast", model.windows.fast.quality), ("slow", model.windows.slow.quality)]
    if model.baseline is not None:
        found.append(("baseline", model.baseline.quality))
    return [(whose, quality) for whose, quality in found if quality is not UNSET]


def _not_followed(model: Drift) -> str | None:
    told = model.following
    if told.reason is None:
        return None
    since = "" if told.since is None else f" since {told.since:%Y-%m-%d %H:%M:%S} UTC"
    return f"It is not followed{since}, {told.behind} vectors behind: {told.detail or ''}."


def _is_suggested(model: Drift) -> bool:
    planned = None if model.baseline is None else model.baseline.next
    return planned is not None and planned.waits_for == "person"


def _baseline(model: Drift, is_suggested: bool) -> str | None:
    """Tell what a baseline has seen, and what comes next for it."""
    found = model.baseline
    if found is None:
        return None
    seen = (
        f"Baseline {found.version} is {found.stage}: it has seen the traffic from"
        f" {as_moment(found.first_at)} to {as_moment(found.last_at)}."
    )
    if found.next is None:
        return seen
    if found.next.waits_for == "person":
        return f"{seen} {_SUGGESTED}" if is_suggested else seen
    due = as_moment(found.next.due_at)
    waits = {
        None: "is being pinned",
        "time": f"is due at {due}",
        "drift": f"waits for a time without drift, and is due at {due} if there is no more of it",
        "vectors": "waits for more vectors",
        "scores": "waits, because too few vectors were measured when they came",
        "unlike": "was refused: it finds drift in vectors of this one, or in newer ones. If that"
        " is the traffic that you want, pin it; if not, end the drift",
        "unfit": f"was refused: no detector can be fitted to it. It is tried again at {due}",
    }
    return f"{seen} The {found.next.stage} one {waits[found.next.waits_for]}."


def _canaries(model: Drift) -> str | None:
    """Tell how far the newest canaries are from their reference, if there are any."""
    told = model.canaries
    if told is None:
        return None
    return (
        f"The canaries, the same texts embedded again, came last at {as_moment(told.received_at)}."
        f" Their distance from the reference (1 - cosine) is {told.median_distance:.0e} in the"
        f" median and {told.max_distance:.0e} at most."
    )
