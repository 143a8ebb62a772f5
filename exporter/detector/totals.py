"""Totals: sums of features by the hour, to which a season is fitted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.detector.waves import TERMS, WEEK, known_seasons, waves_of
from exporter.stats.arrays import Floats

_HOUR = 3_600.0
_FEWEST = 64
"""Parts of a span, at least: hours, or shorter ones. Few sessions reach into two of them."""


@dataclass(slots=True)
class Totals:
    """Sums over vectors by the hour in which they arrived.

    The hours of several weeks are those of one. If the times span less than 64 hours, the parts are
    shorter than an hour. Without times, there is one part.

    Attributes
    ----------
    start, length : float
        When the first part begins, in seconds since the epoch, and its seconds.
    weeks : float
        How many weeks the hours of one stand for.
    n : ndarray of float64, shape (h,)
        Number of vectors.
    waves : ndarray of float64, shape (h, k)
        Sum of each regression term; zeros without times.
    features : ndarray of float64, shape (h, f)
        Sum of each feature.
    """

    start: float
    length: float
    weeks: float
    n: Floats
    waves: Floats
    features: Floats

    @classmethod
    def spanning(cls, times: Floats | None, features: int) -> Totals:
        """Return the sums of f features over no vectors, for the hours that some times span."""
        start, length, weeks, parts = 0.0, _HOUR, 1.0, 1
        if times is not None:
            start, span = float(times.min()), float(np.ptp(times))
            length = min(span / _FEWEST, _HOUR) or _HOUR
            week = round(WEEK / _HOUR)
            parts = week if "weekly" in known_seasons(times) else min(int(span / length) + 1, week)
            weeks = max(span / WEEK, 1.0)
        sums = np.zeros(parts), np.zeros((parts, TERMS)), np.zeros((parts, features))
        return cls(start, length, weeks, *sums)

    def add(self, table: NDArray[np.float32], times: Floats | None) -> None:
        """Add the features, shape (n, f), of vectors stored at times of the span, shape (n,)."""
        if times is None:
            self.n[0] += len(table)
            self.features[0] += table.sum(axis=0, dtype=np.float64)
        else:
            part = ((times - self.start) // self.length).astype(np.intp) % len(self.n)
            order = np.argsort(part, kind="stable")
            found, first = np.unique(part[order], return_index=True)
            self.n[found] += np.diff(first, append=len(part))
            self.waves[found] += np.add.reduceat(waves_of(times[order]), first, axis=0)
            self.features[found] += np.add.reduceat(table[order], first, axis=0, dtype=np.float64)

    def joined(self, parts: int) -> Totals:
        """Return the sums of so many parts each."""
        first = np.arange(0, len(self.n), parts)
        n, waves, features = (
            np.add.reduceat(each, first, axis=0) for each in (self.n, self.waves, self.features)
        )
        return Totals(self.start, parts * self.length, self.weeks, n, waves, features)

    def leverage(self, parts: int) -> Floats:
        """Return how far the mean of so many parts each determines its own expectation, 0 to 1.

        This is for a regression on all terms, without shrinkage. In a single week, a day determines
        most of its own expectation.
        """
        n = np.maximum(self.n, 1)[:, None]
        covariance = np.linalg.inv(self.waves.T @ (self.waves / n) + np.eye(TERMS))
        joined = self.joined(parts)
        own = np.einsum("hk,kl,hl->h", joined.waves, covariance, joined.waves)
        leverage: Floats = own / np.maximum(joined.n, 1)
        return leverage
