"""Real vectors with topics, split again for every trial."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Dataset:
    """Vectors and the topic of each."""

    name: str
    vectors: Vectors
    topic: NDArray[np.str_]
    n_reference: int
    sizes: tuple[int, int]


def sentences() -> Dataset:
    """Return package descriptions, embedded by all-MiniLM-L6-v2; the topic is the section."""
    packed = files("demo") / "data" / "package-descriptions-minilm.npz"
    with as_file(packed) as file, np.load(file) as data:
        vectors = data["embedding"].astype(np.float32)
        return Dataset("sentences, d = 384", vectors, data["section"], 4_000, (200, 800))


def digits() -> Dataset:
    """Return images of handwritten digits as 64 pixels; the topic is the digit."""
    bunch = load_digits()
    vectors = bunch.data.astype(np.float32)
    return Dataset("digits, d = 64", vectors, bunch.target.astype(str), 1_000, (50, 200))


class Trial:
    """A reference, other vectors of its topics, and a topic that it does not have."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        topics, count = np.unique(dataset.topic, return_counts=True)
        self.new_topic = self.random.choice(topics[count >= 60])
        order = self.random.permutation(len(dataset.topic))
        known = order[dataset.topic[order] != self.new_topic]
        self.reference = dataset.vectors[known[: dataset.n_reference]]
        self.pool: Vectors = dataset.vectors[known[dataset.n_reference :]]
        self.new = dataset.vectors[dataset.topic == self.new_topic]
        self.reference_topic = dataset.topic[known[: dataset.n_reference]]
        self.pool_topic = dataset.topic[known[dataset.n_reference :]]
        half = self.random.permutation(topics)[: len(topics) // 2]
        self.in_half = np.isin(self.pool_topic, half)
        d = self.reference.shape[1]
        self.turn = np.linalg.qr(self.random.normal(size=(d, d)))[0].astype(np.float32)

    def window(self, size: int) -> Vectors:
        """Draw vectors without drift."""
        return self.pool[self.random.choice(len(self.pool), size, replace=False)]


class Source:
    """Endless vectors like those of a dataset: points between a vector and a neighbour.

    A stream of a month needs more vectors than any dataset here has. Drawing the same vectors
    again would be drift too, because repeats are detected.
    """

    def __init__(
        self, vectors: Vectors, seed: int, by_day: NDArray[np.bool_] | None = None
    ) -> None:
        neighbours = 10
        self.random = np.random.default_rng(seed)
        self._vectors = vectors
        self._by_day = np.zeros(len(vectors), bool) if by_day is None else by_day
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        self._near = np.vstack(
            [
                np.argpartition(-(part @ unit.T), neighbours, axis=1)[:, : neighbours + 1]
                for part in np.array_split(unit, 1 + len(unit) // 500)
            ]
        )

    def draw(self, size: int) -> Vectors:
        """Draw independent vectors."""
        return self._between(self.random.integers(len(self._vectors), size=size))

    def seasonal(self, times: NDArray[np.float64]) -> Vectors:
        """Draw vectors at some times; the day topics are rarer at night and at weekends."""
        turn = 2 * np.pi * times / 86_400
        share = self._by_day.mean() * (1 + 0.35 * np.sin(turn) + 0.12 * np.cos(2 * turn))
        share *= np.where(times // 86_400 % 7 >= 5, 0.75, 1.05)
        rows = np.where(
            self.random.random(len(times)) < share,
            self.random.choice(np.flatnonzero(self._by_day), len(times)),
            self.random.choice(np.flatnonzero(~self._by_day), len(times)),
        )
        return self._between(rows)

    def sessions(self, size: int) -> Vectors:
        """Draw sessions of 20 to 50 near neighbours, one after the other."""
        members: list[NDArray[np.intp]] = []
        while sum(map(len, members)) < size:
            centre = self.random.integers(len(self._vectors))
            length = self.random.integers(20, 51)
            around = self._near[self._near[centre]].ravel()
            members.append(self.random.choice(around, length))
        return self._between(np.concatenate(members)[:size])

    def _between(self, rows: NDArray[np.intp]) -> Vectors:
        near = self._near[rows, self.random.integers(self._near.shape[1], size=len(rows))]
        part = self.random.random((len(rows), 1), np.float32)
        mixed = self._vectors[rows] * (1 - part) + self._vectors[near] * part
        unit: Vectors = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
        return unit
