"""Slices: the vectors that share a value of the metadata, each with a baseline of its own.

A slice of a window has the vectors of that window with one value. It is measured against the
vectors of the baseline with the same value. A window holds up to half as many vectors as the
baseline, so a slice of it has about as many as its own baseline calibrates.

The examiner measures slices at each check, not a scrape: their detectors differ, so nothing is
shared with the sums of the windows. Detectors of slices are kept in memory and fitted again after
a restart.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import psycopg
from numpy.typing import NDArray

from exporter.detector import Detector
from exporter.detector.ratio import ChangedRatio
from exporter.detector.waves import known_seasons
from exporter.monitor import baseline
from exporter.monitor.baseline import Baseline
from exporter.monitor.local_time import to_local
from exporter.monitor.maturing import stage_of
from exporter.monitor.ring import Arrivals
from exporter.monitor.verdict import Measurement, measure
from exporter.monitor.windows import REFERENCE_RATIO, Limits
from exporter.stats import shares
from exporter.stats.shares import Share
from ingest.runtime.errors import FitFailed, NotFound
from ingest.runtime.printable import printable
from ingest.runtime.settings.settings import WindowSettings
from ingest.runtime.thresholds import STAGES, Stage
from ingest.store import slices
from ingest.store.changes import sampled_ratio
from ingest.store.pool import Borrow

_log = logging.getLogger(__name__)

MOST_SLICES = 20
"""Slices of a model, at most: each costs a detector of several megabytes."""
MOST_VALUES = 20
"""Values of a key whose shares are told, at most: all slices are among them."""
NONE = "(none)"
"""Value of the vectors that have none, or one that is neither text, a number nor a boolean."""
_FEWEST = 250
"""Vectors of a baseline of its own: as many as the smallest baseline of a model."""
_NEARLY_ALL = 0.9
"""Share of the baseline from which a value is no slice: it would be the model once more."""


Shares = Mapping[str, tuple[Share, ...]]
"""By key: how frequent its values are in a window and in the baseline."""


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """The vectors of a model with one value of a key, and their part of its baseline.

    Attributes
    ----------
    key, value : str
    detector : Detector
        Fitted to these vectors of the baseline.
    varies : bool
        Whether these vectors differ, so that a distance from them means something.
    """

    key: str
    value: str
    detector: Detector
    varies: bool

    @property
    def name(self) -> str:
        """The label of its series."""
        return f"{self.key}={self.value}"


@dataclass(frozen=True, slots=True, eq=False)
class Slicing:
    """The slices of a baseline.

    Attributes
    ----------
    keys : tuple of str
    values : mapping of str to sequence of str
        The value of each vector of the baseline, in the order of arrival, by key.
    slices : tuple of Slice
        The values with most vectors.
    folded : int
        Values that could be slices, but have no series of their own because there are too many.
    is_complete : bool
        Whether no slice is missing because the process of its fit ended too early: it may succeed
        later.
    """

    keys: tuple[str, ...]
    values: Mapping[str, Sequence[str]]
    slices: tuple[Slice, ...]
    folded: int
    is_complete: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class SliceFinding:
    """What was measured of a slice of one window.

    Attributes
    ----------
    slice : Slice
    vectors : int
    start, received_at : float or None
        When the oldest and the newest of them were stored, in seconds since the epoch.
    sampled_ratio : float
        Share of the vectors of the window's seconds that were measured.
    measurement : Measurement or None
        None of too few vectors.
    changed : ChangedRatio or None
    is_sampled : bool
        Whether the window has more of them than its part of the baseline calibrates.
    """

    slice: Slice
    vectors: int
    start: float | None
    received_at: float | None
    sampled_ratio: float
    measurement: Measurement | None
    changed: ChangedRatio | None
    is_sampled: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class SlicesFinding:
    """What was found out about the slices of one window.

    Attributes
    ----------
    shares : Shares
    slices : tuple of SliceFinding
    computed_at : float
        Time of the store, in seconds since the epoch.
    """

    shares: Shares
    slices: tuple[SliceFinding, ...]
    computed_at: float

    def of_keys(self, keys: Sequence[str]) -> SlicesFinding:
        """Return it without the values of all other keys."""
        return replace(
            self,
            shares={key: values for key, values in self.shares.items() if key in keys},
            slices=tuple(each for each in self.slices if each.slice.key in keys),
        )


@lru_cache(maxsize=4096)
def named(value: str | None) -> str:
    """Return a value as text for labels and pages: one line, of bounded length, never empty."""
    if value is None:
        return NONE
    cut = value if len(value) <= slices.LONGEST else f"{value[: slices.LONGEST]}…"
    line = printable(cut).strip()
    return line if line and line != shares.OTHER else NONE


def by_key(
    keys: Sequence[str], seqs: Sequence[int], found: slices.Values
) -> dict[str, Sequence[str]]:
    """Return the values of each key in the order of the numbers of the vectors."""
    nothing = (None,) * len(keys)
    rows = [found.get(seq, nothing) for seq in seqs]
    return {key: [named(row[at]) for row in rows] for at, key in enumerate(keys)}


def divide(
    borrow: Borrow,
    model_name: str,
    found: Baseline,
    keys: tuple[str, ...],
    made_before: Sequence[Slice] = (),
) -> Slicing:
    """Read a baseline by the values of its metadata, and fit a detector to each large slice.

    Slices that were made before, of the same baseline, are not fitted again.

    A slice whose vectors are of an earlier stage than the baseline has too few: the thresholds of
    that stage would be too low for it.

    Raises
    ------
    NotFound
        If the baseline was dropped.
    """
    with borrow() as connection:
        rows, values = _read(connection, model_name, found, keys)
    before = {(each.key, each.value): each for each in made_before}
    made: list[Slice] = []
    folded, is_complete = 0, True
    for key, value in _candidates(values):
        times = rows["received_at"][_has(values, key, value)]
        if not _is_as_late(known_seasons(to_local(times, found.zone)), found.stage):
            continue
        if len(made) == MOST_SLICES:
            folded += 1
            continue
        try:
            part = before.get((key, value)) or _fit(model_name, found, rows, values, key, value)
        except (ValueError, FitFailed) as error:
            is_complete = is_complete and not isinstance(error, FitFailed)
            _log.warning(
                "slice not watched",
                extra={"model_name": model_name, "slice": f"{key}={value}", "error": str(error)},
            )
            continue
        # Without vectors that come often, they may be of an earlier stage.
        if _is_as_late(part.detector.seasons, found.stage):
            made.append(part)
    return Slicing(keys, values, tuple(made), folded, is_complete)


def _is_as_late(seasons: Sequence[str], stage: Stage) -> bool:
    """Whether a detector that knows these seasons is of a stage, or of a later one."""
    return STAGES.index(stage_of(seasons)) >= STAGES.index(stage)


def one(
    connection: psycopg.Connection,
    model_name: str,
    found: Baseline,
    keys: Sequence[str],
    name: str,
) -> Slice:
    """Fit a detector to one slice of a baseline, by its name ``key=value``.

    Raises
    ------
    NotFound
        If its key is none of these, or the baseline has too few vectors of it.
    ValueError
        If no detector can be fitted to them.
    """
    key, _, value = name.partition("=")
    if key not in keys:
        listed = ", ".join(keys) or "none"
        raise NotFound(
            f"there is no slice {name!r}: model {model_name} has slices of the keys: {listed}"
        )
    rows, values = _read(connection, model_name, found, (key,))
    count = values[key].count(value)
    if count < _FEWEST:
        raise NotFound(
            f"there is no slice {name!r}: baseline {found.version} of model {model_name} has"
            f" {count} such vectors, and a slice needs {_FEWEST}"
        )
    return _fit(model_name, found, rows, values, key, value)


def _read(
    connection: psycopg.Connection, model_name: str, found: Baseline, keys: Sequence[str]
) -> tuple[NDArray[np.void], dict[str, Sequence[str]]]:
    """Read the vectors of a baseline, and their values of each key."""
    rows = baseline.reference(connection, model_name, found.version)
    read = slices.of_baseline(connection, model_name, found.version, keys)
    return rows, by_key(keys, rows["seq"].tolist(), read)


def _fit(
    model_name: str,
    found: Baseline,
    rows: NDArray[np.void],
    values: Mapping[str, Sequence[str]],
    key: str,
    value: str,
) -> Slice:
    chosen = rows[_has(values, key, value)]
    source = f"baseline {found.version}, {key}={value}"
    fit = baseline.fit(model_name, chosen, source, found.zone)
    return Slice(key, value, fit.detector, fit.varies)


def _has(values: Mapping[str, Sequence[str]], key: str, value: str) -> NDArray[np.bool_]:
    """Return which vectors of the baseline have a value, shape (n,)."""
    chosen: NDArray[np.bool_] = np.array(values[key], object) == value
    return chosen


def _candidates(values: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Yield the keys and values with enough vectors but not nearly all, those with most first."""
    counts = Counter((key, value) for key, column in values.items() for value in column)
    for (key, value), count in counts.most_common():
        if _FEWEST <= count < _NEARLY_ALL * len(values[key]):
            yield key, value


def examine(
    slicing: Slicing,
    values: Mapping[str, Sequence[str]],
    arrivals: Arrivals,
    window: WindowSettings,
    ratio: float,
    found: Baseline,
    now: float,
) -> SlicesFinding:
    """Measure the slices of one window.

    Parameters
    ----------
    slicing : Slicing
    values : mapping of str to sequence of str
        The value of each vector of the window, by key.
    arrivals : Arrivals
        The vectors of the window.
    window : WindowSettings
    ratio : float
        Share of the vectors of its seconds that the window holds.
    found : Baseline
        The one that was divided.
    now : float
        Time of the store.
    """
    columns = {key: np.array(values[key], object) for key in slicing.keys}
    measured = []
    for each in slicing.slices:
        chosen: NDArray[np.bool_] = columns[each.key] == each.value
        measured.append(_measured(each, arrivals.part(chosen), window, ratio, found))
    told = compare(values, slicing.values, slicing.slices)
    return SlicesFinding(told, tuple(measured), now)


def compare(
    values: Mapping[str, Sequence[str]],
    before: Mapping[str, Sequence[str]],
    series: Sequence[Slice] = (),
) -> Shares:
    """Compare how frequent values are in a window and in the baseline, by key.

    Those of the slices that have series of their own are always listed.
    """
    return {
        key: shares.compare(
            column,
            before[key],
            MOST_VALUES,
            [each.value for each in series if each.key == key],
        )
        for key, column in values.items()
    }


def _measured(
    each: Slice, arrivals: Arrivals, window: WindowSettings, ratio: float, found: Baseline
) -> SliceFinding:
    detector = each.detector
    limits = Limits.of(window, detector.n_reference)
    held, level = arrivals, 0
    while len(held) > limits.capacity:
        level += 1
        held = arrivals.sampled(level)
    n, is_sampled = len(held), level > 0
    measurement, changed = None, None
    is_enough = n >= limits.least(is_sampled)
    if is_enough and detector.n_reference >= REFERENCE_RATIO * window.min_vectors:
        times = to_local(held.times, found.zone)
        measurement = measure(detector, detector.sums(held.vectors, times))
        changed = detector.changed_ratio(held.vectors)
    return SliceFinding(
        each,
        n,
        float(held.times[0]) if n else None,
        float(held.times[-1]) if n else None,
        min(ratio, sampled_ratio(level)),
        measurement,
        changed,
        is_sampled,
    )
