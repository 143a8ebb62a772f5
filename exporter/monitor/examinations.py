"""Examinations: computations that are too slow for a scrape and run in the background.

An examination has a name, an interval and a method that examines one model. Its findings are shown
until it runs again. It may ask to run before the next check.
A new one is a class here, a field of `Findings`, and a line in `Monitor`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from exporter.detector.exact import Exact, compare
from exporter.monitor import forecast, rise, slices
from exporter.monitor.forecast import Forecast
from exporter.monitor.ring import Arrivals
from exporter.monitor.rise import Recorded, Rise
from exporter.monitor.slices import SlicesFinding
from exporter.monitor.snapshot import Magnitude, ModelSnapshot
from exporter.stats.quality import Quality, assess
from ingest.store import baselines, history
from ingest.store import slices as stored_slices
from ingest.store.pool import Pool

_SURPRISING = 2.0
"""Score above which exact statistics are worth their cost, and the magnitude is kept up to date."""
_RECENT_SECONDS = 60.0
"""Largest age of the magnitude then."""


class Examination(Protocol):
    """One kind of examination.

    Attributes
    ----------
    name : str
        Of the field of `Findings`, and of the label on the metrics page.
    interval : float
        Minimum seconds between two runs; 0 means every check.
    """

    name: str
    interval: float

    def examine(self, model: ModelSnapshot) -> Mapping[str, object]:
        """Return findings by window name; windows without a finding are left out.

        Raises
        ------
        StoreLost
            If PostgreSQL is away; it is not run for other models in this check.
        Exception
            Anything else concerns this model alone.
        """

    def is_awaited(self, model: ModelSnapshot) -> bool:
        """Return whether its findings are wanted before the next check."""


class QualityExamination:
    """Assesses the vectors of each window that has enough of them.

    Until there is a baseline, vectors are equal only bit by bit.
    """

    name = "quality"
    interval = 0.0

    def examine(self, model: ModelSnapshot) -> Mapping[str, Quality]:
        """Assess the vectors."""
        return {
            each.series.window: assess(each.vectors, _fingerprints(model, each.vectors))
            for each in model.series
            if each.vectors is not None
            and len(each.vectors) >= each.limits.least(each.verdict.sampled_ratio < 1)
        }

    def is_awaited(self, model: ModelSnapshot) -> bool:
        """Return False: the next check is early enough."""
        return False


def _fingerprints(model: ModelSnapshot, vectors: NDArray[np.float32]) -> NDArray[np.int64] | None:
    return None if model.baseline is None else model.baseline.detector.fingerprints(vectors)


class MagnitudeExamination:
    """Measures how much of each window has changed.

    This needs the vectors themselves, and 45 ms for 1,000 of them.
    """

    name = "magnitude"
    interval = 0.0

    def examine(self, model: ModelSnapshot) -> Mapping[str, Magnitude]:
        """Compare the windows that are measured with the baseline."""
        if model.baseline is None:
            return {}
        detector = model.baseline.detector
        return {
            each.series.window: Magnitude(detector.changed_ratio(each.vectors), model.computed_at)
            for each in model.series
            if each.verdict.measurement is not None and each.vectors is not None
        }

    def is_awaited(self, model: ModelSnapshot) -> bool:
        """Return whether a magnitude is missing, or a minute old while the score is high.

        An alert must not wait for the next check to say how large the drift is.
        """
        recent = model.computed_at - _RECENT_SECONDS
        return any(
            magnitude is None or (measured.score > _SURPRISING and magnitude.computed_at < recent)
            for measured, magnitude in (
                (each.verdict.measurement, each.findings.magnitude) for each in model.series
            )
            if measured is not None
        )


class ExactExamination:
    """Compares the dimensions that moved furthest exactly, in each window with a high score.

    Parameters
    ----------
    pool : Pool
        Of the store or of its replicas.
    """

    name = "exact"
    interval = 0.0

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def examine(self, model: ModelSnapshot) -> Mapping[str, Exact]:
        """Compare the windows with the vectors of the baseline."""
        surprising = {
            each.series.window: (measured, each.vectors)
            for each in model.series
            if (measured := each.verdict.measurement) is not None and measured.score > _SURPRISING
        }
        if not surprising or model.baseline is None:
            return {}
        row = model.row
        with self._pool.borrow() as connection:
            reference = baselines.vectors(
                connection, row.model_name, model.baseline.version, row.dimension
            )
        if not len(reference):  # removed with the model, or dropped for a newer baseline
            return {}
        return {
            window: compare(reference, vectors, [top.dimension for top in measured.top_dimensions])
            for window, (measured, vectors) in surprising.items()
            if vectors is not None and len(vectors)
        }

    def is_awaited(self, model: ModelSnapshot) -> bool:
        """Return False: the next check is early enough."""
        return False


class ForecastExamination:
    """Judges the recorded cosine similarity of each window by its own past.

    Parameters
    ----------
    pool : Pool
        Of the store or of its replicas.
    """

    name = "forecast"
    interval = forecast.HOUR_SECONDS

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def examine(self, model: ModelSnapshot) -> Mapping[str, Forecast]:
        """Judge what was recorded against the baseline in use."""
        if model.baseline is None:
            return {}
        now, version, zone = model.computed_at, model.baseline.version, model.baseline.zone
        since = datetime.fromtimestamp(now - forecast.LONGEST * forecast.HOUR_SECONDS, UTC)
        judged = {}
        for each in model.series:
            name, window, _ = each.series
            with self._pool.borrow() as connection:
                times, values = history.cosine_similarities(
                    connection, name, window, version, since
                )
            judged[window] = forecast.judge(times, values, now, zone)
        return judged

    def is_awaited(self, model: ModelSnapshot) -> bool:
        """Return False: the next check is early enough."""
        return False


class RiseExamination:
    """Compares the recorded scores of the slow window with those of a week before.

    Parameters
    ----------
    pool : Pool
        Of the store or of its replicas.
    """

    name = "rise"
    interval = 0.0

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def examine(self, model: ModelSnapshot) -> Mapping[str, Rise]:
        """Compare what was recorded against the baseline in use."""
        if model.baseline is None:
            return {}
        name, version = model.row.model_name, model.baseline.version
        with self._pool.borrow() as connection:
            past = Recorded(connection, name, version, model.slicing is not None)
            found = rise.compare(past, model.computed_at, model.baseline.zone)
        return {rise.WINDOW: found}

    def is_awaited(self, model: ModelSnapshot) -> bool:
        """Return False: the next check is early enough."""
        return False


class SlicesExamination:
    """Measures the slices of each window, and compares their shares with those of the baseline.

    Parameters
    ----------
    pool : Pool
        Of the store or of its replicas: the windows do not hold the metadata.
    """

    name = "slices"
    interval = 0.0

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def examine(self, model: ModelSnapshot) -> Mapping[str, SlicesFinding]:
        """Measure them; a model without slices costs nothing."""
        slicing, found = model.slicing, model.baseline
        if slicing is None or found is None:
            return {}
        held = {
            each.series.window: each.arrivals
            for each in model.series
            if each.arrivals is not None and len(each.arrivals)
        }
        if not held:
            return {}
        values = self._values(model, slicing.keys, list(held.values()))
        return {
            each.series.window: slices.examine(
                slicing,
                slices.by_key(slicing.keys, arrivals.seqs.tolist(), values),
                arrivals,
                each.limits.settings,
                each.verdict.sampled_ratio,
                found,
                model.computed_at,
            )
            for each in model.series
            if (arrivals := held.get(each.series.window)) is not None
        }

    def _values(
        self, model: ModelSnapshot, keys: Sequence[str], held: Sequence[Arrivals]
    ) -> stored_slices.Values:
        seqs = sorted({seq for arrivals in held for seq in arrivals.seqs.tolist()})
        since = min(float(arrivals.times.min()) for arrivals in held)
        until = max(float(arrivals.times.max()) for arrivals in held)
        with self._pool.borrow() as connection:
            return stored_slices.of_vectors(
                connection, model.row.model_name, keys, seqs, since, until
            )

    def is_awaited(self, model: ModelSnapshot) -> bool:
        """Return whether slices are not measured yet, or a minute ago while a score is high."""
        if model.slicing is None:
            return False
        recent = model.computed_at - _RECENT_SECONDS
        for each in model.series:
            found = each.findings.slices
            if each.verdict.vectors and (
                found is None or (found.computed_at < recent and _is_surprising(found))
            ):
                return True
        return False


def _is_surprising(found: SlicesFinding) -> bool:
    return any(
        each.measurement is not None and each.measurement.score > _SURPRISING
        for each in found.slices
    )
