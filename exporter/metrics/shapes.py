"""Shapes of families: what a family has one sample of, and how each is read from a snapshot.

Each function here defines a family and returns it. A value that is not known gives no sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from exporter.detector.ratio import ChangedRatio
from exporter.monitor.baseline import Baseline
from exporter.monitor.forecast import Forecast
from exporter.monitor.snapshot import ModelSnapshot, SeriesSnapshot, Snapshot
from exporter.monitor.states import SHARES_WINDOW
from exporter.monitor.verdict import Measurement
from exporter.stats.quality import Quality
from exporter.stats.shares import Share
from ingest.runtime.family import Family
from ingest.store.explanations import ExplanationRow

Sample = tuple[tuple[str, ...], float]
"""Values of the labels, and the value."""
Kind = Literal["gauge", "counter"]

MODEL = ("model_name",)
SERIES = ("model_name", "window")
SLICED = (*SERIES, "slice")
"""Labels of the families that slices have, too; `slice` is empty for all vectors of the model."""

BASELINE = "baseline"
"""Label `window` of the baseline, which the families of quality measure like a window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFamily(Family):
    """A family whose samples are read from a snapshot.

    Attributes
    ----------
    read : callable
        Gives the samples.
    read_model : callable or None
        Gives the samples of one model, settled. None if they are of the process, or change with
        every poll.
    """

    read: Callable[[Snapshot], Iterable[Sample]]
    read_model: Callable[[ModelSnapshot], Iterable[Sample]] | None = None


DEFINED: list[SnapshotFamily] = []
"""All families, in the order of their definition."""


def family(
    name: str,
    kind: Kind,
    help_text: str,
    labels: tuple[str, ...],
    read: Callable[[Snapshot], Iterable[Sample]],
    read_model: Callable[[ModelSnapshot], Iterable[Sample]] | None = None,
) -> SnapshotFamily:
    """Define a family of any shape."""
    defined = SnapshotFamily(
        name=name, type=kind, help=help_text, labels=labels, read=read, read_model=read_model
    )
    DEFINED.append(defined)
    return defined


def of_models(
    name: str,
    kind: Kind,
    help_text: str,
    labels: tuple[str, ...],
    read_model: Callable[[ModelSnapshot], Iterable[Sample]],
) -> SnapshotFamily:
    """Define a family of any samples of each model."""

    def read(snapshot: Snapshot) -> Iterator[Sample]:
        for model in snapshot.models:
            yield from read_model(model)

    return family(name, kind, help_text, labels, read, read_model)


def of_process(
    name: str, kind: Kind, help_text: str, value: Callable[[Snapshot], float | None]
) -> SnapshotFamily:
    """Define a family of one sample."""

    def read(snapshot: Snapshot) -> Iterator[Sample]:
        if (found := value(snapshot)) is not None:
            yield (), found

    return family(name, kind, help_text, (), read)


def of_examination(
    name: str, help_text: str, value: Callable[[Snapshot, str], float]
) -> SnapshotFamily:
    """Define a family of one sample an examination."""

    def read(snapshot: Snapshot) -> Iterator[Sample]:
        for examination in snapshot.examinations:
            yield (examination,), value(snapshot, examination)

    return family(name, "gauge", help_text, ("examination",), read)


def of_model(
    name: str, kind: Kind, help_text: str, value: Callable[[ModelSnapshot], float | None]
) -> SnapshotFamily:
    """Define a family of one sample per model."""

    def read_model(model: ModelSnapshot) -> Iterator[Sample]:
        if (found := value(model)) is not None:
            yield (model.row.model_name,), found

    return of_models(name, kind, help_text, MODEL, read_model)


def of_baseline(name: str, help_text: str, value: Callable[[Baseline], float]) -> SnapshotFamily:
    """Define a family of one sample per model that has a baseline."""
    return of_model(
        name, "gauge", help_text, lambda m: None if m.baseline is None else value(m.baseline)
    )


def of_series(
    name: str,
    help_text: str,
    value: Callable[[SeriesSnapshot], float | None],
    labels: tuple[str, ...] = SERIES,
) -> SnapshotFamily:
    """Define a family of one sample per series; with the labels `SLICED`, of slices too."""

    def read_model(model: ModelSnapshot) -> Iterator[Sample]:
        for each in series_of(model, labels):
            if (found := value(each)) is not None:
                yield each.series[: len(labels)], found

    return of_models(name, "gauge", help_text, labels, read_model)


def of_each(
    name: str,
    help_text: str,
    label: str,
    values: Callable[[SeriesSnapshot], Iterable[tuple[str, float]]],
    labels: tuple[str, ...] = SERIES,
) -> SnapshotFamily:
    """Define a family of several samples per series, with one more label."""

    def read_model(model: ModelSnapshot) -> Iterator[Sample]:
        for each in series_of(model, labels):
            for value, found in values(each):
                yield (*each.series[: len(labels)], value), found

    return of_models(name, "gauge", help_text, (*labels, label), read_model)


def of_measurement(
    name: str,
    help_text: str,
    value: Callable[[Measurement], float],
    labels: tuple[str, ...] = SERIES,
) -> SnapshotFamily:
    """Define a family of one sample per series that is measured."""
    return of_series(
        name,
        help_text,
        lambda s: None if s.verdict.measurement is None else value(s.verdict.measurement),
        labels,
    )


def of_magnitude(
    name: str, help_text: str, value: Callable[[ChangedRatio], float]
) -> SnapshotFamily:
    """Define a family of one sample per series with a magnitude, of slices too."""
    return of_series(
        name,
        help_text,
        lambda s: None if s.findings.magnitude is None else value(s.findings.magnitude.ratio),
        SLICED,
    )


def of_each_measured(
    name: str,
    help_text: str,
    label: str,
    values: Callable[[Measurement], Iterable[tuple[str, float]]],
) -> SnapshotFamily:
    """Define a family of several samples per series that is measured."""
    return of_each(
        name,
        help_text,
        label,
        lambda s: () if s.verdict.measurement is None else values(s.verdict.measurement),
    )


def of_forecast(
    name: str, help_text: str, value: Callable[[Forecast], float | None]
) -> SnapshotFamily:
    """Define a family of one sample per series that has a history."""
    return of_series(
        name,
        help_text,
        lambda s: None if s.findings.forecast is None else value(s.findings.forecast),
    )


def of_quality(name: str, help_text: str, value: Callable[[Quality], float]) -> SnapshotFamily:
    """Define a family of one sample per series, and one of the baseline as window ``baseline``."""

    def read_model(model: ModelSnapshot) -> Iterator[Sample]:
        if model.baseline is not None:
            yield (model.row.model_name, BASELINE), value(model.baseline.quality)
        for each in model.series:
            if each.findings.quality is not None:
                yield each.series[:2], value(each.findings.quality)

    help_text = f"{help_text}; window is also baseline."
    return of_models(name, "gauge", help_text, SERIES, read_model)


def every_series(snapshot: Snapshot, labels: tuple[str, ...] = SERIES) -> Iterator[SeriesSnapshot]:
    """Yield the series that a family with these labels has."""
    for model in snapshot.models:
        yield from series_of(model, labels)


def series_of(model: ModelSnapshot, labels: tuple[str, ...]) -> tuple[SeriesSnapshot, ...]:
    """Return the series of one model that a family with these labels has."""
    return model.series + model.slices if labels == SLICED else model.series


def of_shares(name: str, help_text: str, ratio: Callable[[Share], float]) -> SnapshotFamily:
    """Define a family of one sample per value that is listed in the slow window."""

    def read_model(model: ModelSnapshot) -> Iterator[Sample]:
        for each in model.series:
            if each.series.window == SHARES_WINDOW and each.findings.slices is not None:
                for key, values in each.findings.slices.shares.items():
                    for share in values:
                        yield (model.row.model_name, key, share.value), ratio(share)

    return of_models(name, "gauge", help_text, ("model_name", "slice", "value"), read_model)


def of_explanation(
    name: str,
    help_text: str,
    label: str | None,
    values: Callable[[ExplanationRow], Iterable[tuple[str, float]]],
) -> SnapshotFamily:
    """Define a family of each window or slice that drifts and is explained.

    It has one more label, or none.
    """
    labels = SLICED if label is None else (*SLICED, label)

    def read_model(model: ModelSnapshot) -> Iterator[Sample]:
        for each in series_of(model, SLICED):
            if each.explanation is not None:
                for value, found in values(each.explanation):
                    yield (*each.series, value)[: len(labels)], found

    return of_models(name, "gauge", help_text, labels, read_model)


def seconds(moment: datetime | None) -> float | None:
    """Return seconds since the epoch."""
    return None if moment is None else moment.timestamp()
