"""The detector: one number that says how surprising a window of embeddings is.

Fitted to a reference once, it is immutable. A window is an array of vectors, or their
running `Sums`; both give the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exporter import codec
from exporter.axes import Axes
from exporter.calibration import Null, RepeatTail, Tails, combined
from exporter.components import Dimension, Direction, Mean, Size, Spread, Topics
from exporter.features import Features, Floats, Shift, standard
from exporter.marginals import Bins, Marginals
from exporter.sums import Sums, checked, fingerprints

__all__ = ["Detector", "Marginals", "Sums"]

MIN_REFERENCE = 100
"""Fewer vectors say nothing about their own distribution."""
_CHUNKS = 32
"""Stretches the reference is halved in: long enough to hold whole sessions."""
_SHAPING = 0.5
"""Share of them that shapes the geometry."""


@dataclass(frozen=True, slots=True)
class Components:
    """The components that read feature means; the fields' order is that of their tails."""

    topics: Topics
    mean: Mean
    direction: Direction
    dimension: Dimension
    spread: Spread
    size: Size

    @property
    def plain(self) -> list[bool]:
        """Which components read plain features only, known from the whole reference."""
        return [field.name not in ("spread", "size") for field in fields(self)]

    def statistics(self, shift: Shift) -> Floats:
        """Return the statistic of each window and component, shape (w, c)."""
        return np.stack([getattr(self, field.name)(shift) for field in fields(self)], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Detector:
    """A reference, and what no drift from it looks like.

    Attributes
    ----------
    COMPONENTS : tuple of str
        Names of all components, in order.
    n_reference : int
        Vectors of the reference. It judges windows of up to a fifth of them.
    reference_cosine_similarity : float
        Mean cosine similarity of the reference's vectors to their centroid.
    """

    COMPONENTS: ClassVar[tuple[str, ...]] = (
        *(field.name for field in fields(Components)),
        "duplicates",
    )
    _VERSION: ClassVar[int] = 1

    n_reference: int
    reference_cosine_similarity: float
    _features: Features
    _axes: NDArray[np.float32]
    _expected: Floats
    _support: Floats
    _components: Components
    _tails: Tails
    _repeats: RepeatTail
    _offset: float
    _bins: Bins

    @classmethod
    def fit(cls, reference: ArrayLike, *, seed: int = 0) -> Detector:
        """Learn what no drift looks like.

        Half of the reference gives the geometry, the other half the null: statistics are
        blind to what they were fitted to. Each half is made of stretches of consecutive
        vectors, so that sessions stay whole.

        Parameters
        ----------
        reference : array_like, shape (n, d)
            Vectors without drift, at least 100; in the order of their arrival if known, which
            lets the null learn whether they arrive independently.
        seed : int
            Everything random follows from it.

        Raises
        ------
        ValueError
            If the shape is wrong, a number is not finite or the vectors are too few.
        """
        vectors = _checked_reference(reference)
        random = np.random.default_rng(seed)
        shaping, held_out = _halves(len(vectors), random)
        centre, scale = standard(vectors)
        standardised = (vectors - centre) / scale
        axes = Axes.fit(standardised[shaping] - standardised[shaping].mean(axis=0), random)
        features = Features.fit(vectors, axes, standardised[held_out])
        shaping_table = features.table(vectors[shaping])
        table = features.table(vectors[held_out])
        components = _components(
            features.shift(shaping_table, axes.vectors),
            (standardised[held_out] @ axes.vectors).var(axis=0, dtype=np.float64),
            (centre / scale) @ axes.vectors,
            float(features.log_norm[1]),
            random,
        )
        null = Null(table, fingerprints(vectors), random)
        tails, repeats, offset = null.calibrate(
            len(vectors),
            lambda means: components.statistics(features.shift(means, axes.vectors)),
        )
        # Squares along axes are larger where the axes were fitted: only the held-out half
        # says what to expect of them. Means and plain squares know nothing of the axes.
        expected = table.mean(axis=0, dtype=np.float64)
        plain = slice(0, 2 * features.dimension)
        total = features.total(vectors) / features.unit / len(vectors)
        expected[plain] = total[plain]
        return cls(
            n_reference=len(vectors),
            reference_cosine_similarity=float(total[-1]),
            _features=features,
            _axes=axes.vectors,
            _expected=expected,
            _support=np.where(components.plain, len(vectors), len(table)).astype(np.float64),
            _components=components,
            _tails=tails,
            _repeats=repeats,
            _offset=offset,
            _bins=Bins.fit(vectors, scale),
        )

    @property
    def dimension(self) -> int:
        """Dimension of the vectors."""
        return self._features.dimension

    def sums(self, batch: ArrayLike | None = None) -> Sums:
        """Return the sums of an empty window, or of these vectors, shape (n, d)."""
        sums = Sums(self._features, self._bins)
        if batch is not None:
            sums.add(batch)
        return sums

    def score(self, current: ArrayLike | Sums) -> float:
        """Return decades of surprise, 0 or more.

        A window without drift scores s or more with a probability of about 10^-s. Comparable
        over models, dimensions and window sizes. An empty window scores 0.
        """
        return self._score(self._decades(self._sums(current)))

    def alarm(self, current: ArrayLike | Sums, alpha: float = 0.01) -> bool:
        """Tell whether the window would be this surprising with a probability below alpha."""
        return self.score(current) > -np.log10(alpha)

    def components(self, current: ArrayLike | Sums) -> dict[str, float]:
        """Return the decades of surprise of each component alone."""
        decades = self._decades(self._sums(current))
        return dict(zip(self.COMPONENTS, decades.tolist(), strict=True))

    def marginals(self, current: ArrayLike | Sums) -> Marginals:
        """Compare every dimension with the reference; zeros for an empty window."""
        sums = self._sums(current)
        if not sums.n:
            return Marginals(np.zeros(self.dimension), np.zeros(self.dimension))
        marginals = self._bins.marginals(sums.bins, sums.n)
        # The outermost bins have no far end, but a distance is never below that of the means.
        moved = np.abs(self._shift(sums)[0, : self.dimension])
        return Marginals(marginals.ks, np.maximum(marginals.wasserstein, moved))

    def magnitude(self, current: ArrayLike | Sums) -> float:
        """Return the mean per-dimension Wasserstein distance, in standard deviations."""
        return float(self.marginals(current).wasserstein.mean())

    def cosine_similarity(self, current: ArrayLike | Sums) -> float:
        """Return the vectors' mean cosine similarity to the reference's centroid.

        Of an empty window, the reference's own.
        """
        sums = self._sums(current)
        if not sums.n:
            return self.reference_cosine_similarity
        return float(sums.total[-1] / self._features.unit[-1] / sums.n)

    def to_bytes(self) -> bytes:
        """Write the detector; the bytes are the same for the same reference and seed."""
        return codec.pack(self, self._VERSION)

    @classmethod
    def from_bytes(cls, data: bytes) -> Detector:
        """Read what `to_bytes` wrote.

        Raises
        ------
        ValueError
            If it is something else, of another version, or damaged.
        """
        return codec.unpack(cls, data, cls._VERSION)

    def _sums(self, current: ArrayLike | Sums) -> Sums:
        return current if isinstance(current, Sums) else self.sums(current)

    def _shift(self, sums: Sums) -> Floats:
        shift: Floats = sums.total / (self._features.unit * sums.n) - self._expected
        return shift[None]

    def _decades(self, sums: Sums) -> Floats:
        if not sums.n:
            return np.zeros(len(self.COMPONENTS))
        shift = self._features.shift(self._shift(sums), self._axes)
        statistics = self._components.statistics(shift) / (1 / sums.n + 1 / self._support)
        of_means = self._tails.decades(statistics, sums.n)[0]
        of_repeats = self._repeats.decades(np.array([sums.repeats]), sums.n)
        return np.concatenate([of_means, of_repeats])

    def _score(self, decades: Floats) -> float:
        return max(float(combined(decades)) - self._offset, 0.0)


def _checked_reference(reference: ArrayLike) -> NDArray[np.float32]:
    array = np.asarray(reference)
    if array.ndim != 2 or not array.shape[1]:
        raise ValueError(f"a reference must have shape (n, d), got {array.shape}")
    if len(array) < MIN_REFERENCE:
        raise ValueError(f"a reference needs at least {MIN_REFERENCE} vectors, got {len(array)}")
    return checked(array, array.shape[1])


def _halves(n: int, random: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Halve the rows below n by stretches; both halves stay in order."""
    first_half = random.permutation(_CHUNKS) < _SHAPING * _CHUNKS
    chosen = first_half[np.arange(n) * _CHUNKS // n]
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def _components(
    shaping: Shift,
    variances: Floats,
    centroid: Floats,
    norm_deviation: float,
    random: np.random.Generator,
) -> Components:
    """Fit the components to the features of the shaping half's vectors."""
    spread = Spread.fit(shaping.shape)
    return Components(
        Topics.fit(shaping.axes, variances, random),
        Mean.fit(variances, shaping.mean.shape[1]),
        Direction.fit(shaping.axes, variances, random),
        Dimension.fit(shaping.mean, shaping.square),
        spread,
        Size.fit(shaping, variances, centroid, spread, norm_deviation),
    )
