"""Calibration: turn a statistic into a p-value, by the null distribution of the reference.

The null distribution of a statistic is its distribution without drift. It is estimated by sample
splitting (Cox 1975): one half of the reference fits the geometry, and windows drawn from the
other half play the part of production. A statistic would be too small on vectors that it was
fitted to.

1. **Tails.** Thousands of windows of several sizes are drawn at random. Each statistic gets a
   Pearson type III distribution by the method of moments: a gamma distribution with a location
   (Pearson 1895). Quadratic forms of a normal vector have it approximately (Imhof 1961), and so
   have maxima of squares. A tail that is still too light or too heavy is stretched, by the mean
   excess of the null statistics over their 10 % quantile (Hill 1975).
2. **Dependence.** Windows of consecutive vectors show whether vectors arrive independently. If
   they come in sessions, shifts grow by a design effect (Kish 1965), and an F distribution with a
   scale replaces the gamma distribution (Box 1954). It has few degrees of freedom, for two
   reasons: the few sessions of a reference are what its scale is estimated from, and the few of a
   window are too few for a sum that is nearly normal.
3. **Combination.** The p-values of all components become one by their weighted harmonic mean
   (Wilson 2019). An offset and a stretch measured on the null make that a p-value again.

P-values are handled as decades of surprise, -log10 p.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, gammaincc

from exporter.detector.dependence import Dependence, consecutive, longest
from exporter.stats.arrays import Floats

CEILING = 300.0
"""Largest number of decades: a double cannot hold probabilities much below 1e-300."""
_TINY = 1e-9
_ROUNDS = 40
"""Times that the rows are shuffled."""
_DRAWS = 100
"""Windows of each size drawn from one order of the rows. 4,000 windows of a size leave 400 beyond
a p-value of 0.1."""
_PIECES = 5
"""Pieces of the smallest window; the rows of a piece stay together while windows are drawn."""
_SIZES = 3
"""Window sizes to calibrate at."""
_SKEWNESS = (0.1, 3.0)
"""Limits of the skewness: those of chi-squared variables with 800 degrees of freedom and with one,
which has 2.8."""
_SINGLE = 0.99
"""Quantile of the statistic of a single vector that stands for an unusual one."""
_SINGLES = 2_000
"""Single vectors that this quantile is taken from, at most."""
_DISTANT = 1e6
"""Design effect at which shifts are far beyond every tolerance."""
_COMPARED = 8
"""Times that the rows are shuffled for the windows that consecutive ones are compared with."""
_MARGIN = 0.05
"""Decades subtracted from every score because the calibration is an estimate itself."""
_LEVEL = 0.01
"""P-value at which the combination of all components is calibrated."""
_LN10 = math.log(10)

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
    least_mean : float
        Minimum mean of the statistic without drift, in units where the variance of a single
        vector counts as 1.
    linear : bool
        Whether the component reads means of the vectors only. These are known from the whole
        reference; the means of other features only from the half that shaped no geometry.
    """

    weight: float
    least_mean: float = _TINY
    linear: bool = False


@dataclass(frozen=True, slots=True)
class Tails:
    """Null distributions of c statistics at g window sizes.

    Attributes
    ----------
    size : ndarray, shape (g,)
        Logarithms of the window sizes.
    shape : ndarray, shape (g, 4, c)
        For each size and statistic, scaled by 1 / (1/n + 1/n_reference): the mean, the standard
        deviation, the skewness, and the stretch of the tail beyond one decade.
    freedom : ndarray, shape (g, c)
        Degrees of freedom with which the scale is known: infinite if vectors arrive
        independently, few if they arrive in sessions.
    effect : ndarray, shape (g, c)
        Design effect of sessions; 0 if vectors arrive independently.
    """

    size: Floats
    shape: Floats
    freedom: Floats
    effect: Floats

    @classmethod
    def fit(cls, sizes: NDArray[np.intp], values: list[Floats], traits: Sequence[Traits]) -> Tails:
        """Fit to the null statistics, shape (w, c), of windows of each size."""
        least = np.array([trait.least_mean for trait in traits])
        shape = np.stack([np.vstack([_moments(v, least), np.ones(len(least))]) for v in values])
        none = np.zeros((len(sizes), len(least)))
        tails = cls(np.log(sizes), shape, none + np.inf, none)
        decades = [tails.decades(v, size) for v, size in zip(values, sizes, strict=True)]
        tails.shape[:, 3] = [_stretch(d, 1.0) for d in decades]
        return tails

    def roughened(self, dependence: Dependence) -> Tails:
        """Allow for the few sessions of a window and of a reference."""
        shape = self.shape.copy()
        shape[:, 1] *= dependence.rougher
        return replace(self, shape=shape, freedom=dependence.freedom, effect=dependence.effect)

    def decades(self, statistics: Floats, n: int) -> Floats:
        """Return -log10 of the p-values of statistics, shape (w, c), of windows of n vectors.

        A window of n vectors in sessions is worth n / effect independent ones. A few of them have
        a longer tail than a normal sum: several sessions of one topic meet by chance. As in
        Hotelling's T-squared test, which knows the variance from n vectors only, n / effect is a
        limit of the degrees of freedom.
        """
        (mean, deviation, skewness, stretch), freedom, effect = self._at(n)
        p = _pearson((statistics - mean) / deviation, skewness)
        if freedom.min() < np.inf:
            limited = 1 / np.maximum(1 / freedom + effect / n, _TINY)
            of_sessions = _scaled_f(statistics / mean, np.square(mean / deviation), limited)
            p = np.where(freedom < np.inf, of_sessions, p)
        return _stretched(_decades(p), 1.0, stretch)

    @property
    def mean(self) -> Floats:
        """Smallest mean of each statistic over the window sizes, shape (c,)."""
        least: Floats = self.shape[:, 0].min(axis=0)
        return least

    def moments(self, n: int) -> tuple[Floats, Floats]:
        """Return the mean and the deviation of the statistics of windows of n vectors.

        They are scaled by 1 / (1/n + 1/n_reference), shape (c,) each.
        """
        mean, deviation = self._at(n)[0][:2]
        return mean, deviation

    def _at(self, n: int) -> tuple[Floats, Floats, Floats]:
        """Interpolate linearly in the logarithm of the size, and constantly beyond the ends."""
        size = min(max(math.log(n), self.size[0]), self.size[-1])
        low = min(int(self.size.searchsorted(size, "right")), len(self.size) - 1) - 1
        part = (size - self.size[low]) / (self.size[low + 1] - self.size[low])
        shape, effect = (
            (1 - part) * each[low] + part * each[low + 1] for each in (self.shape, self.effect)
        )
        return shape, np.minimum(self.freedom[low], self.freedom[low + 1]), effect


@dataclass(frozen=True, slots=True)
class Combination:
    """How the tests of one window become one p-value.

    Attributes
    ----------
    offset : float
        What to subtract from combined decades.
    stretch : float
        How much longer than nominal their tail is beyond the calibrated level.
    """

    offset: float
    stretch: float

    @classmethod
    def fit(cls, decades: Floats, traits: Sequence[Traits], silent: float = 0.0) -> Combination:
        """Fit to the decades of null windows, shape (w, c).

        Other tests, whose weights sum to ``silent``, have a p-value of 1 without drift. If all p
        are the same, the offset is the logarithm of the weights that are left. It is never less.

        The windows beyond the level are few. Two standard errors are added to the stretch, because
        an alarm depends on a tail that no reference is large enough to show.
        """
        scores = np.log10(10.0 ** combined(decades, traits) + silent)
        level = -math.log10(_LEVEL)
        offset = float(np.quantile(scores, 1 - _LEVEL)) - level
        offset = max(offset, math.log10(1 - silent)) + _MARGIN
        stretch = float(_stretch((scores - offset)[:, None], level)[0])
        errors = 1 + 2 / math.sqrt(max(len(scores) * _LEVEL, 1.0))
        return cls(offset, max(stretch * errors, 1.0))

    def score(self, decades: Floats, traits: Sequence[Traits]) -> float:
        """Return the decades of surprise of one window, 0 or more, from those of its tests."""
        if not decades.any():
            return 0.0
        score = combined(decades, traits) - self.offset
        return max(float(_stretched(score, -math.log10(_LEVEL), self.stretch)), 0.0)


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
    stretch : ndarray of intp, shape (n,)
        Number of the stretch of consecutive vectors that each is in.
    statistics : callable
    random : numpy.random.Generator
    """

    table: NDArray[np.float32]
    stretch: NDArray[np.intp]
    statistics: Statistics
    random: np.random.Generator

    def calibrate(self, traits: Sequence[Traits], silent: float = 0.0) -> tuple[Tails, Combination]:
        """Fit the null distributions of c statistics, and of their combination with silent tests.

        See `Combination.fit`.
        """
        sizes = _sizes(len(self.table))
        means = self._means(sizes)
        values = [self._scaled(drawn, size) for drawn, size in zip(means, sizes, strict=True)]
        tails = Tails.fit(sizes, values, traits)
        decades = np.vstack([tails.decades(v, size) for v, size in zip(values, sizes, strict=True)])
        combination = Combination.fit(decades, traits, silent)
        dependence = self._dependence(sizes)
        if dependence is None:
            return tails, combination
        for drawn, size, found, wider in zip(means, sizes, values, dependence.effect, strict=True):
            for at in np.flatnonzero(wider > 1):
                found[:, at] = self._scaled(drawn, size, wider[at])[:, at]
        return Tails.fit(sizes, values, traits).roughened(dependence), combination

    def _dependence(self, sizes: NDArray[np.intp]) -> Dependence | None:
        """Measure the dependence; None if there is none, or no stretch is long enough."""
        whole = longest(self.stretch)
        if not whole:
            return None

        # So far away, no tolerance of a component counts: statistics are plain squares there.
        def random_windows(size: int) -> Floats:
            [size] = _in_pieces(np.array([size])).tolist()
            [means] = self._means(np.array([size]), _COMPARED)
            return self._scaled(means, size, _DISTANT) / _DISTANT

        def consecutive_windows(size: int) -> Floats:
            means = consecutive(self.table, self.stretch, size)
            return self._scaled(means, size, _DISTANT) / _DISTANT

        return Dependence.fit(sizes, whole, random_windows, consecutive_windows)

    def singles(self) -> Floats:
        """Return the statistics of an unusual single vector, in units of the tails, shape (c,)."""
        centred = self.table[:_SINGLES] - self.table.mean(axis=0)
        found: Floats = np.quantile(self.statistics(centred), _SINGLE, axis=0)
        return found

    def _means(self, sizes: NDArray[np.intp], rounds: int = _ROUNDS) -> list[NDArray[np.float32]]:
        """Average random windows of each size, drawn without replacement: shape (w, f) each.

        The rows are shuffled and averaged in pieces, and a window is some of the pieces. This costs
        a tenth of drawing rows, and windows of one order overlap about as much as any.
        """
        piece = _piece(sizes)
        whole = len(self.table) // piece * piece
        means: list[list[NDArray[np.float32]]] = [[] for _ in sizes]
        for _ in range(rounds):
            rows = self.table[self.random.permutation(len(self.table))[:whole]]
            pieces = rows.reshape(-1, piece, rows.shape[1]).mean(axis=1)
            for size, found in zip(sizes // piece, means, strict=True):
                order = self.random.random((_DRAWS, len(pieces)), dtype=np.float32)
                chosen = np.argpartition(order, size, axis=1)[:, :size]
                averaging = np.zeros(order.shape, np.float32)
                np.put_along_axis(averaging, chosen, np.float32(1 / size), axis=1)
                found.append(averaging @ pieces)
        return [np.concatenate(found) for found in means]

    def _scaled(self, means: NDArray[np.float32], size: int, effect: float = 1.0) -> Floats:
        """Return the scaled statistics, shape (w, c), of windows against the rest of the table.

        A design effect is what sessions multiply the variance of a shift by.
        """
        n = len(self.table)
        # The table holds the window. The mean of the rest is n / (n - size) times as far away.
        longer = np.float32(n / (n - size) * math.sqrt(effect))
        shift = (means - self.table.mean(axis=0)) * longer
        return self.statistics(shift) / (1 / size + 1 / (n - size))


def _sizes(n: int) -> NDArray[np.intp]:
    """Return the sizes of the windows to draw from n rows, up to a fifth of them.

    A larger window would be so much of the rows that it varies too little, and fewer than about
    five windows without overlap do not show whether vectors arrive independently. Larger windows
    need no calibration of their own: the sums of many vectors are nearly normal.
    """
    largest = n // 5
    return _in_pieces(np.geomspace(min(50, largest // 2), largest, _SIZES).astype(np.intp))


def _piece(sizes: NDArray[np.intp]) -> int:
    """Return how many rows stay together while windows of these sizes are drawn."""
    return max(int(sizes[0]) // _PIECES, 1)


def _in_pieces(sizes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Round sizes down to whole pieces."""
    piece = _piece(sizes)
    result: NDArray[np.intp] = sizes // piece * piece
    return result


def _moments(values: Floats, least: Floats) -> Floats:
    """Return the mean, deviation and skewness of statistics, shape (w, c) to (3, c)."""
    centred = values - values.mean(axis=0)
    mean = np.maximum(values.mean(axis=0), least)
    # A sum of k squares of unit variance has mean k, variance 2 k and skewness 2 deviation / mean.
    deviation = np.maximum(centred.std(axis=0), np.sqrt(2 * least))
    third = np.power(centred / deviation, 3).mean(axis=0)
    skewness = np.where(centred.std(axis=0) < deviation, 2 * deviation / mean, third)
    return np.stack([mean, deviation, skewness.clip(*_SKEWNESS)])


def _pearson(standardised: Floats, skewness: Floats) -> Floats:
    """Return the tail probability of a Pearson type III distribution of mean 0 and variance 1.

    A gamma variable G of shape k = 4 / skewness^2 has this skewness, and so has (G - k) / sqrt(k).
    """
    shape = 4 / np.square(skewness)
    p: Floats = gammaincc(shape, np.maximum(shape + np.sqrt(shape) * standardised, 0.0))
    return p


def _scaled_f(ratio: Floats, shape: Floats, freedom: Floats) -> Floats:
    """Return the tail probability of statistics over a mean that is an estimate itself.

    A gamma variable of shape k over its mean is chi-squared with 2 k degrees of freedom over 2 k.
    If the mean is estimated with m degrees of freedom, the ratio follows F with 2 k and m.
    """
    half = freedom / 2
    return np.asarray(betainc(half, shape, half / (half + shape * ratio)), np.float64)


def _stretch(decades: Floats, beyond: float) -> Floats:
    """Return how much longer than nominal the tail of null decades is, shape (w, c) to (c,).

    If p-values are uniform, decades beyond a level exceed it by an exponential variable of mean
    1/ln 10. The stretch is the observed mean excess in units of that: Hill's estimator of the
    tail index of 1/p. It is 1 if no decades are beyond.

    Source: Hill (1975), "A simple general approach to inference about the tail of a distribution".
    """
    excess = np.maximum(decades - beyond, 0).sum(axis=0) * _LN10
    events = (decades > beyond).sum(axis=0)
    result: Floats = np.where(events > 0, excess / np.maximum(events, 1), 1.0)
    return result


def _stretched(decades: Floats, beyond: float, stretch: Floats | float) -> Floats:
    """Divide the excess of decades over a level by a stretch."""
    excess = np.maximum(decades - beyond, 0)
    result: Floats = np.minimum(decades - excess * (1 - 1 / stretch), CEILING)
    return result


def _decades(p: Floats) -> Floats:
    result: Floats = -np.log10(np.maximum(p, 10.0**-CEILING))
    return result
