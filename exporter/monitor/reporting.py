"""Reports made from snapshots: the numbers of a report belong to one moment."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

from msgspec import UNSET

from exporter.detector.exact import Exact as Compared
from exporter.monitor.forecast import Forecast
from exporter.monitor.recorded import explanation
from exporter.monitor.report import (
    Aggregates,
    Baseline,
    Canaries,
    Dimension,
    Drift,
    Exact,
    Following,
    History,
    ListedModel,
    ListedSlice,
    ListedWindow,
    ListedWindows,
    Magnitude,
    Next,
    Quality,
    Revisions,
    Slices,
    SliceValue,
    SliceWindow,
    SliceWindows,
    Window,
    Windows,
)
from exporter.monitor.snapshot import Magnitude as FoundMagnitude
from exporter.monitor.snapshot import ModelSnapshot, SeriesSnapshot
from exporter.monitor.states import SHARES_WINDOW
from exporter.monitor.verdict import Measurement
from exporter.stats.quality import Quality as Assessed
from ingest.runtime.thresholds import Stage, Thresholds, of_fleet


def listed(model: ModelSnapshot) -> ListedModel:
    """List a model with the state and score of each window."""
    windows = {each.series.window: _listed_window(each) for each in model.series}
    stage = None if model.baseline is None else model.baseline.stage
    name, listed = model.row.model_name, ListedWindows(**windows)
    return ListedModel(name, stage, 0.0, False, listed, model.watched, _worst(model))


def _worst(model: ModelSnapshot) -> list[ListedSlice]:
    """List of each window a slice that drifts, if any does; else that with the highest score."""
    stage: Stage = "provisional" if model.baseline is None else model.baseline.stage
    thresholds = of_fleet(stage, model.watched)
    worst: dict[str, tuple[tuple[bool, bool, float], ListedSlice]] = {}
    for each in model.slices:
        window, found = each.series.window, _listed_window(each)
        if found.score is None:
            continue
        rank = _rank(found.score, each, thresholds[window])
        if window not in worst or rank > worst[window][0]:
            worst[window] = (
                rank,
                ListedSlice(
                    each.series.slice,
                    window,
                    found.state,
                    found.vectors,
                    found.score,
                    found.magnitude,
                    found.rise,
                ),
            )
    return [listed for _, listed in worst.values()]


def _rank(score: float, each: SeriesSnapshot, thresholds: Thresholds) -> tuple[bool, bool, float]:
    """Return a key that is higher for a worse slice.

    One that drifts comes before one that does not. Here that is not quite known: the thresholds of
    the whole fleet are higher, and the average of an hour is not at hand. The explainer knows both,
    so a slice that it explained comes first, unless its score is low again: an explanation outlasts
    the drift by some minutes.
    """
    has_risen = (each.rise or 0.0) > thresholds.rise
    is_sure = each.explanation is not None and (has_risen or score > thresholds.lasting)
    return is_sure or has_risen or score > thresholds.sudden, is_sure, score


def _listed_window(each: SeriesSnapshot) -> ListedWindow:
    measured, magnitude = each.verdict.measurement, each.findings.magnitude
    return ListedWindow(
        each.verdict.state,
        each.verdict.vectors,
        None if measured is None else measured.score,
        None if magnitude is None else magnitude.ratio.estimate,
        None if each.explanation is None else each.explanation.told["cause"]["kind"],
        each.rise,
    )


def detail(model: ModelSnapshot) -> Drift:
    """Report everything known of one model."""
    row = model.row
    windows = {each.series.window: _window(each) for each in model.series}
    return Drift(
        model_name=row.model_name,
        dimension=row.dimension,
        vectors=row.last_seq,
        last_vector_at=_utc(row.last_received_at),
        computed_at=_moment(model.computed_at),
        age=0.0,
        overdue=False,
        following=following(model),
        baseline=baseline(model),
        canaries=canaries(model),
        windows=Windows(**windows),
        slices=slices(model),
        slices_folded=0 if model.slicing is None else model.slicing.folded,
    )


def slices(model: ModelSnapshot) -> list[Slices]:
    """Report the values of each key, and the slices that have a series of their own."""
    series = {(each.series.slice, each.series.window): each for each in model.slices}
    names = {name for name, _ in series}
    found = next(
        (each.findings.slices for each in model.series if each.series.window == SHARES_WINDOW), None
    )
    if found is None:
        return []
    told = []
    for key, values in found.shares.items():
        listed = []
        for share in values:
            name = f"{key}={share.value}"
            windows = {
                window: None if (each := series.get((name, window))) is None else _slice(each)
                for window in SliceWindows.__struct_fields__
            }
            listed.append(
                SliceValue(
                    **asdict(share), windows=SliceWindows(**windows) if name in names else None
                )
            )
        told.append(Slices(key, listed))
    return told


def _slice(each: SeriesSnapshot) -> SliceWindow:
    measured, magnitude = each.verdict.measurement, each.findings.magnitude
    return SliceWindow(
        each.verdict.state,
        each.verdict.vectors,
        None if measured is None else measured.score,
        None if magnitude is None else _magnitude(magnitude),
        UNSET if each.explanation is None else explanation(each.explanation),
        each.rise,
    )


def following(model: ModelSnapshot) -> Following:
    """Report how a model is followed."""
    known = model.following
    if model.not_followed is None:
        return Following(_moment(known.followed_at), known.behind, None, None, None)
    since = known.followed_at if known.failing_since is None else known.failing_since
    detail = known.detail or "no poll of the store has shown all acknowledged vectors since then"
    return Following(
        _moment(known.followed_at), known.behind, _moment(since), model.not_followed, detail
    )


def baseline(model: ModelSnapshot) -> Baseline | None:
    """Report the baseline of a model, and what comes next for it."""
    pinned, planned = model.baseline, model.maturing
    if pinned is None:
        return None
    return Baseline(
        version=pinned.version,
        stage=pinned.stage,
        pinned_at=pinned.pinned_at.astimezone(UTC),
        next=None
        if planned is None
        else Next(planned.stage, _moment(planned.due_at), planned.waits_for),
        source=pinned.source,
        first_at=pinned.first_at.astimezone(UTC),
        last_at=pinned.last_at.astimezone(UTC),
        time_zone=pinned.zone.key,
        vectors=pinned.detector.n_reference,
        cosine_similarity=pinned.detector.reference_cosine_similarity,
        quality=_quality(pinned.quality),
    )


def canaries(model: ModelSnapshot) -> Canaries | None:
    """Report how far the newest canaries of a model are from their reference."""
    row = model.row
    if (
        row.canaries_received_at is None
        or row.canary_median_distance is None
        or row.canary_max_distance is None
    ):
        return None
    return Canaries(
        row.canaries_received_at.astimezone(UTC),
        row.canary_median_distance,
        row.canary_max_distance,
        row.canary_gap,
    )


def _window(each: SeriesSnapshot) -> Window:
    verdict, limits, findings = each.verdict, each.limits, each.findings
    window = Window(
        state=verdict.state,
        seconds=limits.settings.seconds,
        min_vectors=limits.settings.min_vectors,
        max_vectors=limits.capacity,
        vectors=verdict.vectors,
        sampled_ratio=verdict.sampled_ratio,
        start=None if verdict.start is None else _moment(verdict.start),
        revisions=Revisions(each.revisions.vectors, each.revisions.median_cosine),
    )
    if verdict.measurement is not None:
        _add_measurement(window, verdict.measurement)
    if findings.magnitude is not None:
        window.magnitude = _magnitude(findings.magnitude)
    if each.rise is not None:
        window.rise = each.rise
    if each.explanation is not None:
        window.explanation = explanation(each.explanation)
    if findings.quality is not None:
        window.quality = _quality(findings.quality)
    if findings.exact is not None:
        window.top_dimensions_exact = exact(findings.exact)
    if findings.forecast is not None:
        window.history = _history(findings.forecast)
    return window


def _add_measurement(window: Window, measured: Measurement) -> None:
    window.score = measured.score
    window.components = dict(measured.components)
    window.ks = Aggregates(**measured.ks)
    window.wasserstein = Aggregates(**measured.wasserstein)
    window.cosine_similarity = measured.cosine_similarity
    window.top_dimensions = [Dimension(*top) for top in measured.top_dimensions]


def _magnitude(found: FoundMagnitude) -> Magnitude:
    return Magnitude(**asdict(found.ratio), computed_at=_moment(found.computed_at))


def _quality(assessed: Assessed) -> Quality:
    return Quality(**asdict(assessed))


def exact(compared: Compared) -> Exact:
    """Report exact statistics of dimensions."""
    return Exact(**{name: values.tolist() for name, values in asdict(compared).items()})


def _history(judged: Forecast) -> History:
    changed = None if judged.changed_at is None else _moment(judged.changed_at)
    return History(**asdict(judged) | {"changed_at": changed})


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)
