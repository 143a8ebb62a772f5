"""Calibration: turn a statistic into a p-value, by the null distribution of the reference.

The null distribution of a statistic is its distribution without drift. It is estimated by sample
splitting (Cox 1975): one half of the reference fits the geometry, and windows drawn from the
other half play the part of production. A statistic would be too small on vectors that it was
fitted to.

1. **Tails.** Windows of several sizes are drawn at random. Each statistic gets a parametric null
   by the method of moments: a gamma distribution for quadratic forms (Satterthwaite 1946,
   Box 1954), a Gumbel distribution for maxima (Fisher and Tippett 1928), a negative binomial
   distribution for counts of repeated vectors. A gamma or Gumbel tail that is still too light is
   stretched, by the mean excess of the null statistics over their 10 % quantile (Hill 1975).
2. **Dependence.** Windows of consecutive vectors show whether vectors arrive independently. If
   they come in sessions, a statistic's mean grows by a design effect (Kish 1965). The few
   sessions of a reference estimate that scale with few degrees of freedom, so an F distribution
   with a scale replaces the gamma distribution (Box 1954).
3. **Combination.** The p-values of all components become one by their weighted harmonic mean
   (Wilson 2019), and an offset measured on the null makes that a p-value again.

P-values are handled as decades of surprise, -log10 p.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, gammainc, gammaincc

from exporter.stats.arrays import Floats

CEILING = 300.0
"""Largest number of decades: a double cannot hold probabilities much below 1e-300."""
_TINY = 1e-9
_DRAWS = 400
"""Windows drawn at random for each size."""
_SIZES = 3
"""Window sizes to calibrate at."""
_MARGIN = 0.1
"""Decades subtracted from every score because the calibration is an estimate itself."""
_LEVEL = 0.05
"""P-value at which the combination of all components is calibrated."""
_EULER = 0.5772156649015329
_LN10 = math.log(10)

Tail = Literal["gamma", "gumbel", "repeats"]
"""Family of a null distribution: of quadratic forms, of maxima, or of counts of repeats."""
Statistics = Callable[[NDArray[np.float32]], Floats]
"""Turns shifts of feature means, shape (w, f), into statistics, shape (w, c)."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What calibration needs to know about a component.

    Attributes
    ----------
    weight : float
        Share of the error budget. The weights of all components sum to 1. A component that is
        either certain or silent needs little.
    tail : Tail
    least_mean : float
        Minimum mean of the statistic without drift, in units where the variance of a single
        vector counts as 1.
    linear : bool
        Whether the component reads means of the vectors only. These are known from the whole
        reference; the means of other features only from the half that shaped no geometry.
    """

    weight: float
    tail: Tail
    least_mean: float = _TINY
    linear: bool = False


@dataclass(frozen=True, slots=True)
class Tails:
    """Null distributions of c statistics at g window sizes.

    Attributes
    ----------
    size : ndarray, shape (g,)
        Logarithms of the window sizes.
    shape : ndarray, shape (g, 3, c)
        For each size and statistic, scaled by 1 / (1/n + 1/n_reference): the mean, the standard
        deviation, and the stretch of the tail beyond one decade, at least 1.
    freedom : ndarray, shape (g, c)
        Degrees of freedom with which the scale is known: infinite if vectors arrive
        independently, few if they arrive in sessions.
    """

    size: Floats
    shape: Floats
    freedom: Floats

    @classmethod
    def fit(cls, sizes: NDArray[np.intp], values: list[Floats], traits: Sequence[Traits]) -> Tails:
        """Fit to the null statistics, shape (w, c), of windows of each size."""
        least = np.array([trait.least_mean for trait in traits])
        mean = [np.maximum(v.mean(axis=0), least) for v in values]
        # A sum of k squares of unit variance has mean k and variance 2 k.
        deviation = [np.maximum(v.std(axis=0), np.sqrt(2 * least)) for v in values]
        stretch = np.ones((len(sizes), len(least)))
        freedom = np.full((len(sizes), len(least)), np.inf)
        tails = cls(np.log(sizes), np.stack([mean, deviation, stretch], axis=1), freedom)
        decades = [tails.decades(v, size, traits) for v, size in zip(values, sizes, strict=True)]
        tails.shape[:, 2] = [_stretch(d) for d in decades]
        return tails

    def widened(self, together: Iterable[Floats], n: int) -> Tails:
        """Allow for vectors that arrive in sessions.

        A window of sessions is worth fewer vectors. The effect grows with the window size until
        the window is longer than a session, so each size takes at least the ratio of the
        smaller ones.

        Parameters
        ----------
        together : iterable of ndarray, shape (w, c)
            Statistics of windows of consecutive vectors, for each size.
        n : int
            Vectors that these windows were cut from.

        Notes
        -----
        If a statistic at size m follows a gamma distribution of shape k, the n / m windows
        without overlap estimate its scale with 2 k n / m degrees of freedom.
        """
        shape, freedom = self.shape.copy(), self.freedom.copy()
        wider = np.ones(freedom.shape[1])
        for at, values in enumerate(together):
            mean, deviation, _ = shape[at]
            wider = np.maximum(wider, _widening(values, mean))
            # With few sessions in a window the statistic also varies more around its mean.
            usual = deviation / mean
            variation = values.std(axis=0) / np.maximum(values.mean(axis=0), _TINY)
            rougher = np.where(wider > 1, np.maximum(variation / usual, 1.0), 1.0)
            mean *= wider
            deviation *= wider * rougher
            known = 2 * np.square(mean / deviation) * n / np.exp(self.size[at])
            freedom[at] = np.where(wider > 1, known, np.inf)
        return replace(self, shape=shape, freedom=freedom)

    def decades(self, statistics: Floats, n: int, traits: Sequence[Traits]) -> Floats:
        """Return -log10 of the p-values of statistics, shape (w, c), of windows of n vectors."""
        (mean, deviation, stretch), freedom = self._at(n)
        shape = np.square(mean / deviation)
        p = np.where(
            [trait.tail == "gumbel" for trait in traits],
            _gumbel(statistics, mean, deviation),
            gammaincc(shape, statistics * (shape / mean)),
        )
        if freedom.min() < np.inf:
            p = np.where(freedom < np.inf, _scaled_f(statistics / mean, shape, freedom), p)
        decades = _decades(p)
        beyond = np.maximum(decades - 1, 0)
        result: Floats = decades - beyond * (1 - 1 / stretch)
        return result

    def _at(self, n: int) -> tuple[Floats, Floats]:
        """Interpolate linearly in the logarithm of the size, and constantly beyond the ends."""
        size = min(max(math.log(n), self.size[0]), self.size[-1])
        low = min(int(self.size.searchsorted(size, "right")), len(self.size) - 1) - 1
        part = (size - self.size[low]) / (self.size[low + 1] - self.size[low])
        shape = (1 - part) * self.shape[low] + part * self.shape[low + 1]
        return shape, np.minimum(self.freedom[low], self.freedom[low + 1])


@dataclass(frozen=True, slots=True)
class RepeatTail:
    """Null distribution of the number of vectors that equal an earlier one of the window.

    Negative binomial by the method of moments, or Poisson if the variance does not exceed the
    mean. A reference without repeats counts as one with half a pair of equal vectors, so that
    the mean is never 0.

    Attributes
    ----------
    size, mean, variance : ndarray, shape (g,)
        Logarithms of window sizes; mean and variance of the repeats, per pair of vectors.
    """

    size: Floats
    mean: Floats
    variance: Floats

    @classmethod
    def fit(cls, sizes: NDArray[np.intp], repeats: list[Floats], n: int) -> RepeatTail:
        """Fit to the repeats, shape (w,), in windows of each size, drawn from n vectors."""
        pairs = sizes * (sizes - 1) / 2
        half_a_pair = 1 / (n * (n - 1))
        mean = np.array([r.mean() for r in repeats]) / pairs + half_a_pair
        variance = np.array([r.var() for r in repeats]) / pairs + half_a_pair
        return cls(np.log(sizes), mean, variance)

    def widened(self, together: Iterable[Floats]) -> RepeatTail:
        """Allow for equal vectors that arrive together: repeats, shape (w,), for each size."""
        mean, variance = self.mean.copy(), self.variance.copy()
        widest = 1.0
        for at, repeats in enumerate(together):
            size = np.exp(self.size[at])
            pairs = size * (size - 1) / 2
            widest = max(widest, float(_widening(repeats, mean[at] * pairs)))
            mean[at] *= widest
            variance[at] *= widest**2
        return replace(self, mean=mean, variance=variance)

    def decades(self, repeats: Floats, n: int) -> Floats:
        """Return -log10 of the probability of at least this many repeats among n vectors."""
        if not repeats.any():
            return np.zeros(repeats.shape)
        pairs = max(n * (n - 1) / 2, 1)
        mean = np.interp(np.log(n), self.size, self.mean) * pairs
        variance = np.interp(np.log(n), self.size, self.variance) * pairs
        excess = variance - mean
        if excess > 0.01 * mean:
            # Negative binomial of size mean * odds and success probability odds / (1 + odds).
            odds = mean / excess
            p = betainc(np.maximum(repeats, 1), mean * odds, 1 / (1 + odds))
        else:
            p = gammainc(np.maximum(repeats, 1), mean)
        return _decades(np.where(repeats > 0, p, 1.0))


def combined(decades: Floats, traits: Sequence[Traits]) -> Floats:
    """Combine tests into one by the weighted mean of 1/p, shape (w, c) to (w,).

    Unlike Bonferroni's correction, which takes the smallest p-value times their number, agreeing
    tests reinforce each other, and a redundant test costs little power.

    Source: Wilson (2019), "The harmonic mean p-value for combining dependent tests".
    """
    result: Floats = np.log10(10.0**decades @ np.array([trait.weight for trait in traits]))
    return result


@dataclass(frozen=True, slots=True)
class Null:
    """The half of the reference that windows without drift are drawn from.

    Attributes
    ----------
    table : ndarray, shape (n, f)
        Features of its vectors, in order of arrival.
    fingerprints : ndarray of int64, shape (m,)
        Hashes of all vectors of the reference. Repeats depend on no geometry, so both halves
        count.
    random : numpy.random.Generator
    """

    table: NDArray[np.float32]
    fingerprints: NDArray[np.int64]
    random: np.random.Generator

    def calibrate(
        self, statistics: Statistics, traits: Sequence[Traits], repeat_traits: Traits
    ) -> tuple[Tails, RepeatTail, float]:
        """Fit the null distributions of c statistics and of repeats.

        Returns
        -------
        tails : Tails
        repeats : RepeatTail
        offset : float
            What to subtract from combined decades so that they are those of a p-value.
        """
        n, whole = len(self.table), len(self.fingerprints)
        sizes = _sizes(whole)
        values = [self._statistics(self._random(n, size), statistics) for size in sizes]
        tails = Tails.fit(sizes, values, traits)
        copies = [self._repeats(self._random(whole, size)) for size in 2 * sizes]
        repeats = RepeatTail.fit(2 * sizes, copies, whole)
        decades = [
            np.column_stack([tails.decades(v, size, traits), repeats.decades(c, 2 * size)])
            for v, c, size in zip(values, copies, sizes, strict=True)
        ]
        scores = combined(np.vstack(decades), [*traits, repeat_traits])
        offset = float(np.quantile(scores, 1 - _LEVEL)) + math.log10(_LEVEL)
        together = (self._statistics(_consecutive(n, size), statistics) for size in sizes)
        copied = (self._repeats(_consecutive(whole, size)) for size in 2 * sizes)
        return tails.widened(together, n), repeats.widened(copied), max(offset, 0.0) + _MARGIN

    def _random(self, n: int, size: int) -> NDArray[np.intp]:
        """Draw windows of the rows below n without replacement, shape (draws, size)."""
        order = self.random.random((_DRAWS, n), dtype=np.float32)
        return np.argpartition(order, size, axis=1)[:, :size]

    def _statistics(self, windows: NDArray[np.intp], statistics: Statistics) -> Floats:
        """Return the scaled statistics, shape (w, c), of windows against the rest of the table."""
        n, size = len(self.table), windows.shape[1]
        averaging = np.zeros((len(windows), n), np.float32)
        np.put_along_axis(averaging, windows, np.float32(1 / size), axis=1)
        shift = averaging @ self.table - self.table.mean(axis=0)
        # The table holds the window. The mean of the rest is n / (n - size) times as far away.
        values: Floats = statistics(shift * np.float32(n / (n - size)))
        values /= 1 / size + 1 / (n - size)
        return values

    def _repeats(self, windows: NDArray[np.intp]) -> Floats:
        """Count the repeats in each window, shape (w,)."""
        _, vector = np.unique(self.fingerprints, return_inverse=True)
        ordered = np.sort(vector[windows], axis=1)
        repeats: Floats = (ordered[:, 1:] == ordered[:, :-1]).sum(axis=1, dtype=np.float64)
        return repeats


def _sizes(n_reference: int) -> NDArray[np.intp]:
    """Return the window sizes to calibrate at, up to a tenth of the reference.

    That is approximately a fifth of the half that windows are drawn from. A larger
    window would be so much of that half that it varies too little, and fewer than about five
    windows without overlap do not show whether vectors arrive independently.
    """
    largest = n_reference // 10
    return np.geomspace(min(50, largest // 2), largest, _SIZES).astype(np.intp)


def _consecutive(n: int, size: int) -> NDArray[np.intp]:
    """Cut rows below n into windows of consecutive rows that overlap by half, shape (w, size)."""
    start = np.arange(0, n - size + 1, size // 2)
    return start[:, None] + np.arange(size)


def _widening(together: Floats, mean: Floats) -> Floats:
    """Return the design effect: how much vectors that arrive together raise a statistic's mean.

    A statistic grows with the variance of window means, so the ratio of its mean in windows of
    consecutive vectors to that in random windows is the design effect of cluster sampling. It is
    1 unless it exceeds 1 by two standard errors. Then two standard errors are added, because a
    reference holds few sessions. The windows overlap by half, so half of them are independent.

    Source: Kish (1965), "Survey Sampling", for the design effect.
    """
    ratio = together.mean(axis=0) / mean
    error = together.std(axis=0) / np.sqrt(len(together) / 2) / mean
    result: Floats = np.where(ratio > 1 + 2 * error, ratio + 2 * error, 1.0)
    return result


def _gumbel(statistics: Floats, mean: Floats, deviation: Floats) -> Floats:
    """Return the tail probability of a Gumbel distribution of this mean and deviation.

    By the method of moments: mean = location + euler * scale, deviation = scale * pi / sqrt(6).
    """
    reduced = (statistics - mean) / deviation * (np.pi / np.sqrt(6)) + _EULER
    # exp(700) is the largest power of e that fits; the probability is 1 long before.
    p: Floats = -np.expm1(-np.exp(np.minimum(-reduced, 700.0)))
    return p


def _scaled_f(ratio: Floats, shape: Floats, freedom: Floats) -> Floats:
    """Return the tail probability of statistics over a mean that is an estimate itself.

    A gamma variable of shape k over its mean is chi-squared with 2 k degrees of freedom over 2 k.
    If the mean is estimated with m degrees of freedom, the ratio follows F with 2 k and m.
    """
    half = np.minimum(freedom, 1e9) / 2
    return np.asarray(betainc(half, shape, half / (half + shape * ratio)), np.float64)


def _stretch(decades: Floats) -> Floats:
    """Return how much longer than nominal the tail of null decades is, shape (w, c) to (c,).

    If p-values are uniform, decades beyond 1 exceed 1 by an exponential variable of mean
    1/ln 10. The stretch is the observed mean excess in units of that: Hill's estimator of the
    tail index of 1/p. As many nominal exceedances as are expected are added to steady it.

    Source: Hill (1975), "A simple general approach to inference about the tail of a distribution".
    """
    prior = len(decades) / 10
    beyond = decades > 1
    excess = np.where(beyond, decades - 1, 0).sum(axis=0) * _LN10
    result: Floats = np.maximum((excess + prior) / (beyond.sum(axis=0) + prior), 1.0)
    return result


def _decades(p: Floats) -> Floats:
    result: Floats = -np.log10(np.maximum(p, 10.0**-CEILING))
    return result
