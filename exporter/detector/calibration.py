"""Calibration: how surprising a statistic is, told from the reference's own windows.

Windows are drawn from the half of the reference that no geometry was fitted to, at several
sizes. Their statistics say what no drift looks like: a gamma tail for squared lengths, a
Gumbel tail for maxima, both by moments. Windows of vectors that arrived together show whether
arrival is independent; if not, all statistics are deflated accordingly, and have the heavier tail
of an F distribution, because few sessions do not tell by how much.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, gammainc, gammaincc

from exporter.stats.arrays import Floats

CEILING = 300.0
"""Most decades reported: 1e-300 is about the smallest probability a double can hold."""
# In the order of `score.Components`, and duplicates.
_WEIGHTS = np.array([0.25, 0.2, 0.2, 0.07, 0.03, 0.05, 0.2])
"""Shares of the error budget. Spread and distortion tell loudly or not at all and need little;
two equal vectors in a reference without any are a small p-value already."""
_MAXIMUM = np.array([False, False, True, True, False, False])
"""Which statistics are maxima."""
_TINY = 1e-9
_LEAST = np.array([_TINY, _TINY, _TINY, _TINY, _TINY, 5.0])
"""Least mean of each statistic: `Distortion` has five features of at least unit variance."""
_DRAWS = 400
_SIZES = 3
_APART = 5
"""Fewest windows without overlap that say whether arrival is independent."""
_MARGIN = 0.1
"""Decades given up because the calibration is an estimate itself."""
_EULER = 0.5772156649015329
_LN10 = float(np.log(10))


@dataclass(frozen=True, slots=True)
class Tails:
    """Tails of several statistics without drift, at several window sizes.

    Attributes
    ----------
    size : ndarray, shape (g,)
        Logarithms of the window sizes.
    shape : ndarray, shape (g, 3, c)
        Of each size and statistic, scaled by 1 / (1/n + 1/n_reference): the mean, the standard
        deviation, and how much heavier than the family the tail is beyond one decade, at least 1.
    freedom : ndarray, shape (g, c)
        Degrees of freedom with which the scale is known: infinite where vectors arrive
        independently, few where they arrive in sessions.
    """

    size: Floats
    shape: Floats
    freedom: Floats

    @classmethod
    def fit(cls, sizes: NDArray[np.intp], values: list[Floats]) -> Tails:
        """Learn from the statistics, shape (w, c), of windows of each size."""
        mean = [np.maximum(v.mean(axis=0), _LEAST) for v in values]
        deviation = [np.maximum(v.std(axis=0), np.sqrt(2 * _LEAST)) for v in values]
        stretch = np.ones((len(sizes), len(_LEAST)))
        freedom = np.full((len(sizes), len(_LEAST)), np.inf)
        tails = cls(np.log(sizes), np.stack([mean, deviation, stretch], axis=1), freedom)
        decades = [tails.decades(v, size) for v, size in zip(values, sizes, strict=True)]
        tails.shape[:, 2] = [_stretch(d) for d in decades]
        return tails

    def widened(self, together: list[Floats], n: int) -> Tails:
        """Allow for vectors that arrive together, by their statistics at the smaller sizes.

        Sessions make a window worth fewer vectors. Dependence adds up with the size until the
        window is longer than it lasts, so larger sizes inherit the widest ratio before them.
        The windows were cut from n vectors.
        """
        shape, freedom = self.shape.copy(), self.freedom.copy()
        wider = rougher = np.ones(freedom.shape[1])
        for at, (mean, deviation, _) in enumerate(shape):
            if at < len(together):
                wider = np.maximum(wider, _widening(together[at], mean))
                # Few sessions in a window make its statistics vary more, too.
                usual = deviation / mean
                variation = together[at].std(axis=0) / np.maximum(together[at].mean(axis=0), _TINY)
                rougher = np.where(wider > 1, np.maximum(variation / usual, 1.0), 1.0)
            mean *= wider
            deviation *= wider * rougher
            # Each of the windows that fit in n tells the scale, with twice a gamma's shape.
            known = 2 * np.square(mean / deviation) * n / np.exp(self.size[at])
            freedom[at] = np.where(wider > 1, known, np.inf)
        return replace(self, shape=shape, freedom=freedom)

    def decades(self, statistics: Floats, n: int) -> Floats:
        """Return -log10 of the tail probabilities, shape (w, c) for statistics of that shape."""
        (mean, deviation, stretch), freedom = self._at(n)
        shape = np.square(mean / deviation)
        squared = gammaincc(shape, statistics * (shape / mean))
        # Gumbel: mean = location + euler * scale, deviation = scale * pi / sqrt 6.
        largest = (statistics - mean) / deviation * (np.pi / np.sqrt(6)) + _EULER
        p = np.where(_MAXIMUM, -np.expm1(-np.exp(-largest)), squared)
        if freedom.min() < np.inf:
            p = np.where(freedom < np.inf, _unsure(statistics / mean, shape, freedom), p)
        decades = -np.log10(np.maximum(p, 10.0**-CEILING))
        beyond = np.maximum(decades - 1, 0)
        result: Floats = decades - beyond * (1 - 1 / stretch)
        return result

    def _at(self, n: int) -> tuple[Floats, Floats]:
        """Interpolate in the logarithm of the size; beyond the ends the end holds."""
        size = min(max(math.log(n), self.size[0]), self.size[-1])
        low = min(int(self.size.searchsorted(size, "right")), len(self.size) - 1) - 1
        part = (size - self.size[low]) / (self.size[low + 1] - self.size[low])
        shape = (1 - part) * self.shape[low] + part * self.shape[low + 1]
        return shape, np.minimum(self.freedom[low], self.freedom[low + 1])


@dataclass(frozen=True, slots=True)
class RepeatTail:
    """Tail of the number of repeated vectors without drift.

    Negative binomial by moments, or Poisson where the variance is no larger than the mean. A
    reference without repeats still leaves room for half a pair of equal vectors in it.

    Attributes
    ----------
    size, mean, variance : ndarray, shape (g,)
        Logarithms of window sizes; moments of the repeats as a rate per pair of vectors.
    """

    size: Floats
    mean: Floats
    variance: Floats

    @classmethod
    def fit(cls, sizes: NDArray[np.intp], repeats: list[Floats], n: int) -> RepeatTail:
        """Learn from the repeats of windows of these sizes, of n vectors in all."""
        pairs = sizes * (sizes - 1) / 2
        half_a_pair = 1 / (n * (n - 1))
        mean = np.array([r.mean() for r in repeats]) / pairs + half_a_pair
        variance = np.array([r.var() for r in repeats]) / pairs + half_a_pair
        return cls(np.log(sizes), mean, variance)

    def widened(self, together: list[Floats]) -> RepeatTail:
        """Allow for equal vectors that arrive together, by repeats at the smaller sizes."""
        mean, variance = self.mean.copy(), self.variance.copy()
        widest = 1.0
        for at in range(len(mean)):
            if at < len(together):
                size = np.exp(self.size[at])
                pairs = size * (size - 1) / 2
                widest = max(widest, float(_widening(together[at], mean[at] * pairs)))
            mean[at] *= widest
            variance[at] *= widest**2
        return replace(self, mean=mean, variance=variance)

    def decades(self, repeats: Floats, n: int) -> Floats:
        """Return -log10 of the probability of at least so many repeats."""
        if not repeats.any():
            return np.zeros(repeats.shape)
        pairs = max(n * (n - 1) / 2, 1)
        mean = np.interp(np.log(n), self.size, self.mean) * pairs
        variance = np.interp(np.log(n), self.size, self.variance) * pairs
        excess = variance - mean
        if excess > 0.01 * mean:
            odds = mean / excess
            p = betainc(np.maximum(repeats, 1), mean * odds, 1 / (1 + odds))
        else:
            p = gammainc(np.maximum(repeats, 1), mean)
        p = np.where(repeats > 0, p, 1.0)
        result: Floats = -np.log10(np.maximum(p, 10.0**-CEILING))
        return result


def combined(decades: Floats) -> Floats:
    """Combine tests into one by the mean of 1/p, shape (w, c) to (w,).

    Better than the smallest p times their number: tests that agree add up, and a second one
    that sees the same costs next to nothing.

    Source: Wilson (2019), the harmonic mean p-value.
    """
    result: Floats = np.log10(10.0**decades @ _WEIGHTS)
    return result


@dataclass(frozen=True, slots=True)
class Null:
    """The reference's own windows.

    Attributes
    ----------
    table : ndarray, shape (n, f)
        Features of the held-out half's vectors, in order of arrival.
    fingerprints : ndarray of int64, shape (m,)
        Hashes of all vectors of the reference.
    random : numpy.random.Generator
    """

    table: NDArray[np.float32]
    fingerprints: NDArray[np.int64]
    random: np.random.Generator

    def calibrate(
        self, n_reference: int, statistics: Callable[[NDArray[np.float32]], Floats]
    ) -> tuple[Tails, RepeatTail, float]:
        """Learn the tails of statistics, a function of shifts of shape (w, f), and of repeats.

        Returns
        -------
        tails : Tails
        repeats : RepeatTail
        offset : float
            What to subtract from combined decades so that they are decades again.
        """
        sizes = _sizes(n_reference)
        n, whole = len(self.table), len(self.fingerprints)
        values = [self._statistics(self._random(n, size), statistics) for size in sizes]
        tails = Tails.fit(sizes, values)
        copies = [self._repeats(self._random(whole, size)) for size in 2 * sizes]
        repeats = RepeatTail.fit(2 * sizes, copies, whole)
        decades = [
            np.column_stack([tails.decades(v, size), repeats.decades(c, 2 * size)])
            for v, c, size in zip(values, copies, sizes, strict=True)
        ]
        offset = float(np.quantile(combined(np.vstack(decades)), 0.95)) + math.log10(0.05)
        together = [self._statistics(windows, statistics) for windows in _contiguous(n, sizes)]
        copied = [self._repeats(windows) for windows in _contiguous(whole, 2 * sizes)]
        return tails.widened(together, n), repeats.widened(copied), max(offset, 0.0) + _MARGIN

    def _random(self, n: int, size: int) -> NDArray[np.intp]:
        """Draw windows of the rows below n, shape (draws, size)."""
        order = self.random.random((_DRAWS, n), dtype=np.float32)
        return np.argpartition(order, size, axis=1)[:, :size]

    def _statistics(
        self,
        windows: NDArray[np.intp],
        statistics: Callable[[NDArray[np.float32]], Floats],
    ) -> Floats:
        """Return the statistics of windows against the rest of the table, scaled."""
        n, size = len(self.table), windows.shape[1]
        averaging = np.zeros((len(windows), n), np.float32)
        np.put_along_axis(averaging, windows, np.float32(1 / size), axis=1)
        shift = averaging @ self.table - self.table.mean(axis=0)
        # A window is part of the table: its rest is n / (n - size) times as far away.
        values: Floats = statistics(shift * np.float32(n / (n - size)))
        values /= 1 / size + 1 / (n - size)
        return values

    def _repeats(self, windows: NDArray[np.intp]) -> Floats:
        _, vector = np.unique(self.fingerprints, return_inverse=True)
        ordered = np.sort(vector[windows], axis=1)
        repeats: Floats = (ordered[:, 1:] == ordered[:, :-1]).sum(axis=1, dtype=np.float64)
        return repeats


def _contiguous(n: int, sizes: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Cut rows below n into windows of consecutive rows, overlapping by half.

    Only for sizes that give several windows apart.
    """
    starts = [np.arange(0, n - size + 1, max(1, size // 2)) for size in sizes]
    return [
        start[:, None] + np.arange(size)
        for start, size in zip(starts, sizes, strict=True)
        if size * _APART <= n
    ]


def _widening(together: Floats, mean: Floats) -> Floats:
    """Ratio of the means of statistics of vectors that arrived together to those of others.

    1 unless it is larger beyond doubt, by two standard errors from windows that overlap by half;
    then two more are allowed for, because a reference holds few sessions.
    """
    ratio = together.mean(axis=0) / mean
    error = together.std(axis=0) / np.sqrt(len(together) / 2) / mean
    result: Floats = np.where(ratio > 1 + 2 * error, ratio + 2 * error, 1.0)
    return result


def _unsure(ratio: Floats, shape: Floats, freedom: Floats) -> Floats:
    """Tail probability of statistics over a mean that is an estimate itself: F, not gamma."""
    half = np.minimum(freedom, 1e9) / 2
    return np.asarray(betainc(half, shape, half / (half + shape * ratio)), dtype=np.float64)


def _stretch(decades: Floats) -> Floats:
    """Mean excess of null decades, shape (w, c), over 1, in units of what it should be.

    Where probabilities are right, decades beyond any point are exponential with mean 1/ln 10.
    As many events that fit as are expected beyond 1 steady the estimate.
    """
    prior = len(decades) / 10
    beyond = decades > 1
    excess = np.where(beyond, decades - 1, 0).sum(axis=0) * _LN10
    result: Floats = np.maximum((excess + prior) / (beyond.sum(axis=0) + prior), 1.0)
    return result


def _sizes(n_reference: int) -> NDArray[np.intp]:
    """Window sizes to calibrate at, up to a tenth of the reference.

    A window that is most of the half it is drawn from varies too little in rare vectors.
    """
    largest = n_reference // 10
    return np.geomspace(min(50, largest // 2), largest, _SIZES).astype(np.intp)
