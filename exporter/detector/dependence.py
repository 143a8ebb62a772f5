"""Dependence: how much less a window is worth if related vectors arrive together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exporter.stats.arrays import Floats

_GAP = 50
"""Vectors that may be missing within a stretch: as many as the smallest window has."""
_FEWEST_WINDOWS = 10
"""Windows of whole stretches without overlap that show dependence, at least."""
_SHORTEST = 12
"""Vectors of a stretch that shows dependence, at least."""
_EVIDENCE = 3.0
"""Standard errors by which the effect on one statistic at least must exceed 1."""
_ERRORS = 2.0
"""Standard errors that are added to an effect."""
_TINY = 1e-9


def stretches(positions: ArrayLike) -> NDArray[np.intp]:
    """Return the number of each vector's stretch, by its position in the stream, shape (n,)."""
    numbers: NDArray[np.intp] = np.cumsum(np.diff(positions, prepend=0) > _GAP)
    return numbers


def consecutive(
    table: NDArray[np.float32], stretch: NDArray[np.intp], size: int
) -> NDArray[np.float32]:
    """Average windows of consecutive rows of one stretch that overlap by half, shape (w, f)."""
    edges = np.flatnonzero(np.diff(stretch, prepend=-1, append=-1))
    starts = [
        start
        for first, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        for start in range(first, end - size + 1, max(size // 2, 1))
    ]
    return np.stack([table[start : start + size].mean(axis=0) for start in starts])


def longest(stretch: NDArray[np.intp]) -> int:
    """Return the size of the largest windows of consecutive rows that show dependence, or 0."""
    lengths = np.bincount(stretch)[stretch]
    size = min(len(stretch) // _FEWEST_WINDOWS, int(np.median(lengths)))
    return size if size >= _SHORTEST else 0


class _Ratio(NamedTuple):
    """Statistics of consecutive windows, in units of those of random windows, shape (c,) each.

    Attributes
    ----------
    mean : ndarray
    error : ndarray
        Standard error of the mean.
    chance : ndarray
        What that would be if the windows were random ones.
    variation : ndarray
        Relative deviation.
    windows : int
    """

    mean: Floats
    error: Floats
    chance: Floats
    variation: Floats
    windows: int

    @classmethod
    def of(cls, consecutive: Floats, independent: Floats) -> _Ratio:
        usual = np.maximum(independent.mean(axis=0), _TINY)
        mean, deviation = consecutive.mean(axis=0), consecutive.std(axis=0)
        # The windows overlap by half, so half of them are independent.
        root = np.sqrt(len(consecutive) / 2)
        chance = independent.std(axis=0) / usual
        variation = deviation / np.maximum(mean, _TINY) / np.maximum(chance, _TINY)
        return cls(
            mean / usual, deviation / usual / root, chance / root, variation, len(consecutive)
        )


@dataclass(frozen=True, slots=True)
class Dependence:
    """What sessions of related vectors do to c statistics at g window sizes.

    Attributes
    ----------
    effect : ndarray, shape (g, c)
        Design effect: the variance of window means, as a multiple of that in windows of independent
        vectors. 1 if vectors arrive independently.
    rougher : ndarray, shape (g, c)
        Relative deviation of the statistic, as a multiple of that in windows of independent
        vectors: a window holds few sessions.
    freedom : ndarray, shape (g, c)
        Degrees of freedom with which the effect is known; infinite if vectors arrive independently.
    """

    effect: Floats
    rougher: Floats
    freedom: Floats

    @classmethod
    def fit(
        cls,
        sizes: NDArray[np.intp],
        whole: int,
        independent: Callable[[int], Floats],
        consecutive: Callable[[int], Floats],
    ) -> Dependence | None:
        """Compare windows of consecutive vectors with windows of independent ones.

        A statistic grows with the variance of window means, so the ratio of its mean in windows of
        consecutive vectors to that in random windows is the design effect of cluster sampling.
        There are sessions if it exceeds 1 by three standard errors for any statistic, in whole
        stretches or in thirds of them. Then two standard errors are added to all, because a
        reference holds few sessions.

        No such window is longer than a stretch, but interleaved sessions may be. The effect in
        longer windows is twice that in whole stretches, less that in thirds of stretches. This
        removes the first order of what is missed at the ends of a stretch.

        Parameters
        ----------
        sizes : ndarray of intp, shape (g,)
        whole : int
            Vectors of a whole stretch.
        independent, consecutive : callable
            Return the statistics of windows of a size, shape (w, c): of random windows, and of
            windows of consecutive vectors that overlap by half.

        Returns
        -------
        Dependence or None
            None if there are no sessions.

        Notes
        -----
        Sources: Kish (1965), "Survey Sampling", for the design effect; Vats and Flegal (2022),
        "Lugsail lag windows for estimating time-average covariance matrices", for longer windows.
        A chi-squared variable of m degrees of freedom has a relative variance of 2 / m.
        """

        def ratio(size: int) -> _Ratio:
            return _Ratio.of(consecutive(size), independent(size))

        of_whole, of_third = ratio(whole), ratio(whole // 3)
        if not any((r.mean > 1 + _EVIDENCE * r.chance).any() for r in (of_third, of_whole)):
            return None
        longer = of_whole._replace(
            mean=2 * of_whole.mean - of_third.mean,
            error=np.hypot(2 * of_whole.error, of_third.error),
        )
        found = [ratio(size) if size <= whole else longer for size in sizes[:-1].tolist()]
        # Windows larger than any size here have the effect of the last one.
        found.append(longer)
        mean, error = (np.stack([getattr(r, name) for r in found]) for name in ("mean", "error"))
        # A deviation of n values is known to one part in the root of 2 n, and half of the windows
        # are independent.
        variation = np.stack([r.variation * (1 + _ERRORS / np.sqrt(r.windows)) for r in found])
        return cls(
            np.maximum.accumulate(np.maximum(mean + _ERRORS * error, 1.0)),
            np.maximum(variation, 1.0),
            np.maximum(2 * np.square(mean / np.maximum(error, _TINY)), 1.0),
        )
