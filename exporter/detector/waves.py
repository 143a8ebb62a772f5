"""Waves: functions of the time that come again every day or every week, and the weekend."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exporter.stats.arrays import Floats

DAY = 86_400.0
WEEK = 7 * DAY
_HARMONICS = 2
"""Sine and cosine pairs per period. Each pair adds variance to the expected mean."""
TERMS = 2 + 4 * _HARMONICS
"""Regression terms: the constant, a cosine and a sine per harmonic of two periods, the weekend."""
_DAILY = [*range(1, 1 + _HARMONICS), *range(1 + 2 * _HARMONICS, 1 + 3 * _HARMONICS)]
OF_SEASON = {"daily": _DAILY, "weekly": sorted({*range(1, TERMS)} - {*_DAILY})}
"""The terms of each season. All cosines come before all sines, and the weekend comes last."""
_COVERED = 0.97
"""Share of a day or a week that the times must span."""
_UNKNOWNS = 1 + 2 * _HARMONICS
"""Points of a period that determine its harmonics. The ridge bounds the weekend."""
_PARTS = 24
"""Parts of a day or a week. Those in which enough arrives are such points: see `_filled`."""
_SPANS = {"daily": DAY, "weekly": WEEK}
_MIDWEEKEND = 3 * DAY
"""Midnight from a Saturday to a Sunday: the epoch began on a Thursday."""
_HARMONIC_OF = np.tile(np.arange(1.0, 1 + _HARMONICS), 2)
"""Harmonic of each pair: those of the day, then those of the week."""
_RATES = 2 * np.pi * _HARMONIC_OF / np.repeat([DAY, WEEK], _HARMONICS)
"""Radians a second of each pair."""
_IS_WEEKLY = np.repeat([0.0, 1.0], _HARMONICS)
_AMPLITUDES = _IS_WEEKLY * 2 / (np.pi * _HARMONIC_OF) * np.sin(2 * np.pi * _HARMONIC_OF / 7)
"""What the pairs follow of a weekend, which is two days of seven: Fourier coefficients."""
_WEEKEND = np.r_[
    _AMPLITUDES * np.cos(_RATES * _MIDWEEKEND), _AMPLITUDES * np.sin(_RATES * _MIDWEEKEND)
]
"""The same of each cosine and sine."""
_REST = 2 / 7 * 5 / 7 - np.square(_AMPLITUDES).sum() / 2
"""Mean square of what they do not follow."""
_UNIT = 2.0**30
"""A regression term of 1 as an integer. Integers add up to the same sum in any order."""


def checked_times(times: ArrayLike, n: int) -> Floats:
    """Return the times of n vectors as an array.

    Raises
    ------
    ValueError
        If the times are not n finite numbers.
    """
    array = np.asarray(times, dtype=np.float64)
    if array.shape != (n,) or not np.isfinite(array).all():
        raise ValueError(f"timestamps must be {n} finite numbers, got shape {array.shape}")
    return array


def known_seasons(times: Floats) -> tuple[str, ...]:
    """Return the seasons that the times of a reference show.

    They span the whole length. A day of a stream begins and ends with an arrival, not with its
    first and last second. So the usual pause between two arrivals is part of the span: a day of a
    job that runs every hour has 24 batches, but only 23 hours between the first and the last one.

    And they fill five of 24 parts of the day or the week. A job that runs for half an hour of each
    night shows nothing of the day, and a few other vectors beside it fill no part.
    """
    if not len(times):
        return ()
    span, pause = float(np.ptp(times)), _usual_pause(times)
    return tuple(
        name
        for name, length in _SPANS.items()
        if span + min(pause, length / _UNKNOWNS) > _COVERED * length
        and _filled(times % length / length) >= _UNKNOWNS
    )


def _filled(phases: Floats) -> int:
    """Return how many parts of a period have at least a tenth of an even share of the phases."""
    counts = np.bincount((phases * _PARTS).astype(np.intp), minlength=_PARTS)
    return int((counts >= max(0.1 * len(phases) / _PARTS, 1)).sum())


def _usual_pause(times: Floats) -> float:
    """Return the median pause between arrivals, of the pauses at all moments of the span.

    The longest one is left out: it may be the time between a test and the real traffic.
    """
    pauses = np.sort(np.diff(np.sort(times)))[:-1]
    if not len(pauses):
        return 0.0
    upto = pauses.cumsum()
    return float(pauses[np.searchsorted(upto, upto[-1] / 2)])


def waves_of(times: Floats) -> Floats:
    """Return the regression terms at times, shape (n, k), the constant first."""
    turns = times[:, None] * _RATES
    waves = np.empty((len(times), TERMS))
    waves[:, 0] = 1
    pairs = waves[:, 1:-1]
    np.cos(turns, out=pairs[:, : len(_RATES)])
    np.sin(turns, out=pairs[:, len(_RATES) :])
    # The weekend less what the others follow of it. Over weeks, it is orthogonal to them and has
    # the mean square of a wave, one half.
    weekend = np.where((times - (_MIDWEEKEND - DAY)) % WEEK < 2 * DAY, 5 / 7, -2 / 7)
    # Not by `@`: its last bits depend on the number of rows.
    waves[:, -1] = (weekend - (pairs * _WEEKEND).sum(axis=1)) / np.sqrt(2 * _REST)
    return waves


def waves_at(time: float) -> Floats:
    """Return the regression terms at one time, in seconds since the epoch, shape (k,)."""
    waves: Floats = waves_of(np.array([time]))[0]
    return waves


def no_waves() -> NDArray[np.int64]:
    """Return the integer sum of the regression terms over no vectors, shape (k,)."""
    return np.zeros(TERMS, np.int64)


def each_waves(times: Floats) -> NDArray[np.int64]:
    """Return the regression terms at times, shape (n, k), rounded to integers."""
    return np.rint(waves_of(times) * _UNIT).astype(np.int64)


def total_waves(times: Floats) -> NDArray[np.int64]:
    """Return the integer sum of the regression terms over vectors stored at times, shape (k,).

    Each term is rounded before it is added, so that sums do not depend on the order.
    """
    total: NDArray[np.int64] = each_waves(times).sum(axis=0)
    return total


def mean_waves(total: NDArray[np.int64], n: int) -> Floats:
    """Return the mean of the regression terms over n vectors from their integer sum."""
    mean: Floats = total / (_UNIT * n)
    return mean


def counted(total: NDArray[np.int64]) -> int:
    """Return how many vectors an integer sum of the regression terms holds."""
    return int(total[0] // int(_UNIT))
