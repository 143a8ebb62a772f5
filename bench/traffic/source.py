"""A source: endless vectors like those of a data set."""

from __future__ import annotations

from os import PathLike

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Rows = NDArray[np.intp]

_NEAR = 50
"""Nearest vectors of the same topic that a session draws from."""
_LEAST = 20
"""Smaller topics are left out: too few vectors to make others of."""
_MIXED = (0.25, 0.75)
"""Range of the share of standard deviation that comes from another vector of the topic."""
_EQUAL_LENGTHS = 0.01
"""Standard deviation of lengths, as a share of their mean, below which they count as equal."""


class Source:
    """Endless vectors like those of a data set, which do not repeat.

    A month of traffic has more vectors than any data set here. A vector drawn again would be a
    repeat, and a detector could learn the few there are by heart. So each vector is made of two of
    the same topic, u and v, as ``m + sqrt(1 - s^2) (u - m) + s (v - m)``: m is the mean of the
    topic and s is uniform in [0.25, 0.75]. Mean and covariance of the topic stay exactly what they
    are in the data, which no point between u and v achieves: that is nearer to the mean. Where all
    lengths are equal, as encoders make them, they stay so.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
    topic : ndarray, shape (n,)
        Label of each vector.

    Attributes
    ----------
    vectors : ndarray of float32, shape (n, d)
        Those of topics with at least 20 vectors.
    topic : ndarray of intp, shape (n,)
        Number of the topic of each, from 0.
    counts : ndarray of intp, shape (k,)
        Vectors of each topic.

    Raises
    ------
    ValueError
        If fewer than four topics have 20 vectors.
    """

    def __init__(self, vectors: Vectors, topic: NDArray[np.generic]) -> None:
        _, numbers, counts = np.unique(topic, return_inverse=True, return_counts=True)
        kept = counts[numbers] >= _LEAST
        self.vectors = vectors[kept]
        _, self.topic, self.counts = np.unique(
            numbers[kept], return_inverse=True, return_counts=True
        )
        if len(self.counts) < 4:
            raise ValueError(
                f"the data need 4 topics of at least {_LEAST} vectors, got {len(self.counts)}"
            )
        self._lengths = np.linalg.norm(self.vectors, axis=1)
        self._keeps_length = self._lengths.std() < _EQUAL_LENGTHS * self._lengths.mean()
        self._by_topic = np.argsort(self.topic, kind="stable")
        self._place = np.argsort(self._by_topic)
        self._first = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        members = np.split(self._by_topic, self._first[1:])
        self._means = np.stack([self.vectors[rows].mean(axis=0) for rows in members])
        self._near = np.empty((len(self.vectors), _NEAR), np.intp)
        for rows in members:
            self._near[rows] = rows[self._nearest(rows)]

    def _nearest(self, rows: Rows) -> Rows:
        """Return the nearest of some vectors among themselves, by cosine, shape (m, 50)."""
        unit = self.vectors[rows] / self._lengths[rows, None]
        nearest = np.argsort(-(unit @ unit.T), axis=1)[:, :_NEAR]
        return np.resize(nearest.T, (_NEAR, len(rows))).T

    @classmethod
    def load(cls, file: str | PathLike[str]) -> Source:
        """Read an npz file with ``embedding``, shape (n, d), and ``topic`` or ``section``."""
        with np.load(file) as data:
            topic = data["topic" if "topic" in data else "section"]
            return cls(data["embedding"].astype(np.float32), topic)

    def rows(self, topics: Rows, random: np.random.Generator) -> Rows:
        """Draw a row of each of these topics, shape (m,)."""
        within = (random.random(len(topics)) * self.counts[topics]).astype(np.intp)
        return self._by_topic[self._first[topics] + within]

    def _others(self, rows: Rows, random: np.random.Generator) -> Rows:
        """Draw another row of the topic of each."""
        count = self.counts[self.topic[rows]]
        step = 1 + (random.random(len(rows)) * (count - 1)).astype(np.intp)
        first = self._first[self.topic[rows]]
        others: Rows = self._by_topic[first + (self._place[rows] - first + step) % count]
        return others

    def near(self, row: int, size: int, random: np.random.Generator) -> Rows:
        """Draw rows among the 50 nearest of a row in its topic."""
        rows: Rows = random.choice(self._near[row], size)
        return rows

    def fresh(self, rows: Rows, random: np.random.Generator) -> Vectors:
        """Make a new vector of each row, shape (m, d)."""
        others = self._others(rows, random)
        share = random.uniform(*_MIXED, len(rows)).astype(np.float32)[:, None]
        mean = self._means[self.topic[rows]]
        made = np.sqrt(1 - share**2) * (self.vectors[rows] - mean)
        made += mean + share * (self.vectors[others] - mean)
        if self._keeps_length:
            made *= (self._lengths[rows] / np.linalg.norm(made, axis=1))[:, None]
        result: Vectors = made
        return result
