"""The detector: one number that says how surprising a window of embeddings is.

It is fitted to a reference once and is immutable. A window is an array of vectors or their
running `Sums`; both give the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exporter.detector import codec
from exporter.detector.axes import Axes
from exporter.detector.calibration import Combination, Null, Tails
from exporter.detector.components import DUPLICATES, NAMES, TRAITS, Components, Sample
from exporter.detector.dependence import stretches
from exporter.detector.equality import Equality
from exporter.detector.features import Features, standard
from exporter.detector.marginals import Bins, Marginals
from exporter.detector.ratio import FEWEST, ChangedRatio, Comparison, HeldOut
from exporter.detector.repeats import Repeats, Rest, popular
from exporter.detector.season import Season, Swing
from exporter.detector.sums import (
    Part,
    Sums,
    checked,
    pack,
    pack_each,
    without_first,
    without_last,
)
from exporter.detector.totals import Totals
from exporter.detector.unrest import unrest
from exporter.detector.waves import checked_times, known_seasons, waves_at
from exporter.stats.arrays import Floats
from exporter.stats.thinning import thinned

__all__ = ["Detector", "Marginals", "Sums"]

MIN_REFERENCE = 100
"""Minimum vectors of a reference. Fewer do not determine a null distribution."""
_FEWEST = 25
"""Vectors from which means are judged, if more than half of a window are popular vectors. The null
distributions are those of windows of 50 and more. In windows of less than half of that, tails are
longer: of those with 10 vectors beside popular ones, 1.4 % would score 3."""
_CHUNKS = 8
"""Stretches of consecutive vectors that each go to one half: long enough to hold sessions."""
_LARGEST = 1e30
"""Largest absolute value in a reference. Larger values overflow float32."""
_FURTHEST = 1e18
"""Largest distance from the mean, in standard deviations of the narrowest dimension. Larger values
overflow float32."""
_SHAPING = 0.5
"""Share of the stretches that shapes the geometry."""
_RESTLESS = 3
"""Times the variance between hours that counts as usual. A new day has it, and so had the days that
the expectation is from. Besides, days that follow from each other show too little of it: see
`unrest`."""
_TRAITS = tuple(TRAITS.values())
_ALL_TRAITS = (*_TRAITS, DUPLICATES)
_LINEAR = np.array([trait.linear for trait in _TRAITS])


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Detector:
    """A reference, with the null distribution of every component.

    Attributes
    ----------
    COMPONENTS : tuple of str
        Names of all components, in order.
    n_reference : int
        Vectors of the reference. Windows may hold up to half of them.
    reference_cosine_similarity : float
        Mean cosine similarity of the reference's vectors to the centroid. The centroid is the
        mean of the half that shaped the geometry.
    """

    COMPONENTS: ClassVar[tuple[str, ...]] = NAMES
    _VERSION: ClassVar[int] = 10

    n_reference: int
    reference_cosine_similarity: float
    _features: Features
    _axes: NDArray[np.float32]
    _season: Season
    _linear_season: Season
    _swing: Swing
    _unseen: Floats
    _components: Components
    _tails: Tails
    _repeats: Repeats
    _combination: Combination
    _equality: Equality
    _bins: Bins
    _held_out: HeldOut

    @classmethod
    def fit(
        cls,
        reference: ArrayLike,
        *,
        seed: int = 0,
        timestamps: ArrayLike | None = None,
        positions: ArrayLike | None = None,
        more: Iterable[tuple[ArrayLike, ArrayLike]] = (),
    ) -> Detector:
        """Fit the components and their null distributions.

        One half of the reference fits the geometry, the other half the null distributions:
        statistics are too small on vectors that they were fitted to. Each half consists of
        stretches of consecutive vectors, so that sessions stay whole.

        Parameters
        ----------
        reference : array_like, shape (n, d)
            Vectors without drift, at least 100. In the order of their arrival, if known: this
            shows whether they arrive independently.
        seed : int
            Seed of everything random.
        timestamps : array_like, shape (n,), optional
            Seconds since the epoch. If they span a day, the detector learns what to expect at each
            hour of the day; if they span a week, also on each day of the week; see `seasons`.
            Habits that follow a local clock need local seconds, here and for the windows.
        positions : array_like of int, shape (n,), optional
            Number of each vector in its stream, ascending, if the reference is a sample of
            stretches. Without it, all vectors count as consecutive.
        more : iterable of tuples of array_like, shapes (m, d) and (m,), optional
            Other vectors without drift, of the same time, in batches, and their timestamps, which
            are needed if those of the reference are given. They only tell which means to expect.
            The means of the reference alone are as uncertain as those of a large window.

        Raises
        ------
        ValueError
            If a shape is wrong, a value or a time is not finite, a value is too large, or there are
            too few vectors.
        """
        everything = _checked_reference(reference)
        equality = Equality.fit(everything, standard(everything)[1])
        hashes = equality.fingerprints(everything)
        often = popular(hashes)
        others = ~np.isin(hashes, often)
        vectors = everything[others]
        random = np.random.default_rng(seed)
        shaping, held_out = _halves(len(vectors), random)
        centre, scale = standard(vectors[shaping])
        _check_range(vectors, float(scale.min()))
        standardised = (vectors - centre) / scale
        axes = Axes.fit(standardised[shaping], random)
        features = Features.fit(vectors[shaping], axes, standardised[held_out])
        table = features.table(vectors)
        times = None if timestamps is None else checked_times(timestamps, len(everything))[others]
        seasons = () if times is None else known_seasons(times)
        times_held_out = None if times is None else times[held_out]
        batches = _unpopular(more, features.dimension, equality, often, has_times=times is not None)
        totals, linear = _totals(features, table, held_out, times, batches)
        linear_season = Season.fit(linear, seasons, random)
        season = Season.fit(totals, seasons, random)
        sample = Sample.of(vectors[shaping], features, axes, vectors[held_out], random)
        components = Components.fit(sample)

        def statistics(shifts: NDArray[Any]) -> Floats:
            return components.statistics(features.shift(shifts, axes.vectors))

        places = _positions(positions, len(everything))
        usual = season.residual(table[held_out], times_held_out)
        null = Null(
            usual,
            stretches(places[others][held_out]),
            statistics,
            random,
        )
        tails, combination = null.calibrate(_TRAITS, DUPLICATES.weight)
        of_popular = np.zeros((len(often), features.size), np.int64)
        for at, one in enumerate(often):
            alike = everything[hashes == one]
            of_popular[at] = np.rint(features.total(alike) / len(alike))
        unseen = np.zeros(len(_TRAITS))
        if seasons == ("daily",):
            # The days of a week differ about as much as the hours of a day do.
            unseen = statistics(_swings(season, linear_season)).mean(axis=0) / tails.mean
        elif seasons:
            known, known_linear = (totals, season), (linear, linear_season)
            unseen = _RESTLESS * unrest(known, known_linear, statistics, tails, _LINEAR)
        repeats = Repeats.fit(hashes, places, often, of_popular, null.singles() / tails.mean)
        # Popular vectors shape nothing, but half of the others does.
        half = np.flatnonzero(~others)
        half = half[thinned(len(half), -(-len(half) // 2))]
        in_order = np.sort(np.append(np.flatnonzero(others)[held_out], half))
        cosines = features.table(everything)[:, -1]
        return cls(
            n_reference=len(everything),
            reference_cosine_similarity=float(cosines.mean(dtype=np.float64)),
            _features=features,
            _axes=axes.vectors,
            _season=season,
            _linear_season=linear_season,
            _swing=Swing.fit(linear_season),
            _unseen=unseen,
            _components=components,
            _tails=tails,
            _repeats=repeats,
            _combination=combination,
            _equality=equality,
            _bins=Bins.fit(everything, scale),
            _held_out=HeldOut.fit(everything[in_order], features, axes.vectors),
        )

    @property
    def dimension(self) -> int:
        """Dimension of the vectors."""
        return self._features.dimension

    @property
    def leading(self) -> int:
        """Number of leading axes: those along which the reference varies most."""
        return self._features.leading

    def sums(self, batch: ArrayLike | None = None, times: Floats | None = None) -> Sums:
        """Return the sums of an empty window, or of vectors, shape (n, d).

        With the times at which the vectors were stored, shape (n,), in seconds since the epoch, a
        seasonal detector compares the window with what is usual at those times.
        """
        sums = Sums(self._features, self._bins, self._equality)
        if batch is not None:
            sums.add(batch, times)
        return sums

    def pack(self, batch: ArrayLike, times: Floats | None = None) -> Part:
        """Return the sums of vectors, shape (n, d), in little space; see `Sums.take`."""
        return pack(self._features, self._bins, self._equality, batch, times)

    def pack_each(self, batch: ArrayLike, times: Floats | None = None) -> list[Part]:
        """Return the sums of each of some vectors, shape (n, d)."""
        return pack_each(self._features, self._bins, self._equality, batch, times)

    def without_first(self, whole: Part, head: Part) -> Part:
        """Return the part that is left when the first vectors are removed."""
        return without_first(self._bins, whole, head)

    def without_last(self, whole: Part, tail: Part) -> Part:
        """Return the part that is left when the last vectors are removed."""
        return without_last(self._bins, whole, tail)

    @property
    def seasons(self) -> tuple[str, ...]:
        """The seasons that are known: `daily` if the reference spans a day, and `weekly`."""
        return self._season.seasons

    def score(self, current: ArrayLike | Sums, at: float | None = None) -> float:
        """Return the decades of surprise, 0 or more.

        A window without drift scores s or more with a probability of about 10^-s. Scores are
        comparable between models, dimensions and window sizes. An empty window scores 0.

        Parameters
        ----------
        current : array_like, shape (n, d), or Sums
        at : float, optional
            Time of all vectors, in seconds since the epoch, unless their sums know the time of
            each. A seasonal detector compares with what is usual then; without any time, with the
            average over all times.
        """
        return self._score(self._decades(self._sums(current), at))

    def alarm(
        self, current: ArrayLike | Sums, alpha: float = 0.01, at: float | None = None
    ) -> bool:
        """Return whether the p-value of the window is below alpha."""
        return self.score(current, at) > -math.log10(alpha)

    def components(self, current: ArrayLike | Sums, at: float | None = None) -> dict[str, float]:
        """Return the decades of surprise of each component."""
        return self.scores(current, at)[1]

    def scores(
        self, current: ArrayLike | Sums, at: float | None = None
    ) -> tuple[float, dict[str, float]]:
        """Return `score` and `components`; computing both costs little more than one."""
        decades = self._decades(self._sums(current), at)
        return self._score(decades), dict(zip(self.COMPONENTS, decades.tolist(), strict=True))

    def marginals(self, current: ArrayLike | Sums) -> Marginals:
        """Compare every dimension with the reference; zeros for an empty window."""
        sums = self._sums(current)
        if not sums.n:
            return Marginals(*np.zeros((3, self.dimension)))
        marginals = self._bins.marginals(sums.bins, sums.n)
        # The outermost bins have no far end, so a distance may come out too small. It is never
        # below the distance of the means.
        rest = self._repeats.rest(sums)
        moved = np.abs(self._shift(rest, None)[0, : self.dimension]) * (rest.n / sums.n)
        return replace(marginals, wasserstein=np.maximum(marginals.wasserstein, moved))

    def changed_ratio(self, current: ArrayLike) -> ChangedRatio:
        """Return the share of a window's vectors that the reference does not explain.

        This needs the vectors themselves, and takes 45 ms for 1,000 of 768 components.

        Parameters
        ----------
        current : array_like, shape (n, d)
            In the order of arrival. Less than ten vectors show nothing: 0, within 0 and 1.

        Raises
        ------
        ValueError
            If the dimension is another one, or a component is not finite in float32.
        """
        vectors = checked(current, self.dimension)
        return self._held_out.changed_ratio(vectors, self._features, self._axes)

    def fingerprints(self, vectors: ArrayLike) -> NDArray[np.int64]:
        """Return a hash of each vector, which is the same for vectors that count as equal.

        Parameters
        ----------
        vectors : array_like, shape (n, d)

        Returns
        -------
        ndarray of int64, shape (n,)

        Raises
        ------
        ValueError
            If the dimension is another one, or a component is not finite in float32.
        """
        return self._equality.fingerprints(checked(vectors, self.dimension))

    def novelty(self, vectors: ArrayLike) -> Floats:
        """Return how new each vector is, compared with the reference.

        Parameters
        ----------
        vectors : array_like, shape (n, d)

        Returns
        -------
        ndarray of float64, shape (n,)
            Share of the reference's vectors that are closer to their neighbours in the reference, 0
            to 1. Of usual vectors it is uniform; 1 is newer than any vector of the reference. One
            vector of a known topic may be as new as one of a new topic, so many are needed to tell.

        Raises
        ------
        ValueError
            If the dimension is another one, or a component is not finite in float32.
        """
        found = checked(vectors, self.dimension)
        return self._held_out.novelty(found, self._features, self._axes)

    def compare(self, current: ArrayLike) -> Comparison:
        """Compare each vector of a window with vectors of the reference.

        Parameters
        ----------
        current : array_like, shape (n, d)
            At least ten vectors, in the order of arrival. The time grows with n.

        Raises
        ------
        ValueError
            If there are fewer vectors, the dimension is another one, or a component is not finite
            in float32.
        """
        vectors = checked(current, self.dimension)
        if len(vectors) < FEWEST:
            raise ValueError(f"a comparison needs at least {FEWEST} vectors, got {len(vectors)}")
        return self._held_out.compare(vectors, self._features, self._axes)

    def places(self, vectors: ArrayLike) -> NDArray[np.float32]:
        """Return where vectors are, in the coordinates of `compare`.

        Parameters
        ----------
        vectors : array_like, shape (n, d)

        Returns
        -------
        ndarray of float32, shape (n, k)

        Raises
        ------
        ValueError
            If the dimension is another one, or a component is not finite in float32.
        """
        checked_vectors = checked(vectors, self.dimension)
        return self._held_out.places(checked_vectors, self._features, self._axes)

    def outside(self, vectors: ArrayLike) -> NDArray[np.float32]:
        """Return how much of each vector lies off the leading axes.

        Parameters
        ----------
        vectors : array_like, shape (n, d)

        Returns
        -------
        ndarray of float32, shape (n,)
            Ratio of the squared length of the standardised vector, 0 to 1. For random directions,
            it is near the ratio of the dimensions that are off the axes.

        Raises
        ------
        ValueError
            If the dimension is another one, or a component is not finite in float32.
        """
        standardised = self._features.standardise(checked(vectors, self.dimension))
        along = np.square(standardised @ self._axes[:, : self.leading]).sum(axis=1)
        total = np.maximum(np.square(standardised).sum(axis=1), np.finfo(np.float32).tiny)
        ratio: NDArray[np.float32] = np.clip(1 - along / total, 0, 1)
        return ratio

    def cosine_similarity(self, current: ArrayLike | Sums) -> float:
        """Return the mean cosine similarity of the vectors to the reference's centroid.

        For an empty window, return that of the reference itself.
        """
        sums = self._sums(current)
        if not sums.n:
            return self.reference_cosine_similarity
        return float(sums.total[-1] / self._features.unit[-1] / sums.n)

    def to_bytes(self) -> bytes:
        """Write the detector. The same reference and seed give the same bytes."""
        return codec.pack(self, self._VERSION)

    @classmethod
    def from_bytes(cls, data: bytes) -> Detector:
        """Read what `to_bytes` wrote.

        Raises
        ------
        Outdated
            If an earlier version of this project wrote it: fit the reference again.
        ValueError
            If the data is not a detector, has a later version, or is damaged.
        """
        return codec.unpack(cls, data, cls._VERSION)

    def _sums(self, current: ArrayLike | Sums) -> Sums:
        return current if isinstance(current, Sums) else self.sums(current)

    def _waves(self, sums: Sums, at: float | None) -> Floats | None:
        """Return the mean of the regression terms over a window; None if its times are unknown."""
        if not self._season.is_known:
            return None
        waves = sums.mean_waves
        return waves_at(at) if waves is None and at is not None else waves

    def _shift(self, rest: Rest, waves: Floats | None) -> Floats:
        expected = _expected(self._season, self._linear_season, waves)
        shift: Floats = rest.total / (self._features.unit * max(rest.n, 1)) - expected
        if waves is not None:
            shift[: self.dimension] = self._swing.beyond(shift[: self.dimension])
        return shift[None]

    def _decades(self, sums: Sums, at: float | None) -> Floats:
        rest = self._repeats.rest(sums)
        of_repeats = self._repeats.decades(sums, rest)
        if rest.n < min(_FEWEST, sums.n / 2) or not rest.n:
            return np.append(np.zeros(len(_TRAITS)), of_repeats)
        waves = self._waves(sums, at)
        shift = self._features.shift(self._shift(rest, waves), self._axes)
        known = self._season.uncertainty(waves), self._linear_season.uncertainty(waves)
        noise = 1 / rest.n + np.where(_LINEAR, known[1], known[0]) + self._repeats.variance(rest)
        if waves is not None:
            noise += self._unseen
        of_means = self._tails.decades(self._components.statistics(shift) / noise, rest.n)[0]
        return np.append(of_means, of_repeats) + 0.0  # no -0.0

    def _score(self, decades: Floats) -> float:
        return self._combination.score(decades, _ALL_TRAITS)


def _checked_reference(reference: ArrayLike) -> NDArray[np.float32]:
    array = np.asarray(reference)
    if array.ndim != 2 or not array.shape[1]:
        raise ValueError(f"a reference must have shape (n, d), got {array.shape}")
    if len(array) < MIN_REFERENCE:
        raise ValueError(f"a reference needs at least {MIN_REFERENCE} vectors, got {len(array)}")
    return checked(array, array.shape[1])


def _unpopular(
    batches: Iterable[tuple[ArrayLike, ArrayLike]],
    dimension: int,
    equality: Equality,
    often: NDArray[np.int64],
    *,
    has_times: bool,
) -> Iterator[tuple[NDArray[np.float32], Floats | None]]:
    """Check batches of vectors and times, and leave out the popular vectors."""
    for batch, times in batches:
        rows = checked(batch, dimension)
        at = checked_times(times, len(rows)) if has_times else None
        kept = ~np.isin(equality.fingerprints(rows), often)
        if kept.any():
            yield rows[kept], None if at is None else at[kept]


def _totals(
    features: Features,
    table: NDArray[np.float32],
    held_out: NDArray[np.intp],
    times: Floats | None,
    batches: Iterable[tuple[NDArray[np.float32], Floats | None]],
) -> tuple[Totals, Totals]:
    """Sum by the hour the features of a reference and of batches of other vectors.

    Returns the sums of all features, and those of the linear ones. The half of the reference that
    shaped the features gives biased means of them. The first d features are linear, so the whole
    reference gives their means.
    """
    d = features.dimension
    totals, linear = Totals.spanning(times, features.size), Totals.spanning(times, d)
    totals.add(table[held_out], None if times is None else times[held_out])
    linear.add(table[:, :d], times)
    for rows, row_times in batches:
        found = features.table(rows)
        totals.add(found, row_times)
        linear.add(found[:, :d], row_times)
    return totals, linear


def _expected(season: Season, linear: Season, waves: Floats | None) -> Floats:
    """Return the feature means to expect; the first features are those of the linear season."""
    expected = season.expected(waves)
    known = linear.expected(waves)
    expected[: len(known)] = known
    return expected


def _swings(season: Season, linear: Season) -> Floats:
    """Return how far the season moves the feature means at each hour of the day, shape (24, f)."""
    hours = np.stack([_expected(season, linear, waves_at(3_600.0 * at)) for at in range(24)])
    return hours - _expected(season, linear, None)


def _positions(positions: ArrayLike | None, n: int) -> NDArray[np.intp]:
    array = np.arange(n) if positions is None else np.asarray(positions)
    if array.shape != (n,) or array.dtype.kind not in "iu" or (np.diff(array) <= 0).any():
        raise ValueError(f"positions must be {n} ascending integers")
    return array.astype(np.intp)


def _check_range(vectors: NDArray[np.float32], least_scale: float) -> None:
    """Raise ValueError if the largest value would overflow float32 in a computation."""
    row, column = np.unravel_index(np.abs(vectors).argmax(), vectors.shape)
    largest = float(vectors[row, column])
    if abs(largest) > _LARGEST or abs(largest) > _FURTHEST * least_scale:
        allowed = min(_LARGEST, _FURTHEST * least_scale)
        raise ValueError(
            f"vector {row} of {len(vectors)} has {largest:.3g} as component {column}; the"
            f" largest value allowed here is {allowed:.1g} (smallest standard deviation:"
            f" {least_scale:.1g})"
        )


def _halves(n: int, random: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split the rows below n into two halves, by stretches; both stay in order."""
    first_half = random.permutation(_CHUNKS) < _SHAPING * _CHUNKS
    chosen = first_half[np.arange(n) * _CHUNKS // n]
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)
