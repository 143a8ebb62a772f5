"""The stream: when all vectors of a data set were made, and where they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from exporter.backfill.parquet import Dataset, RowGroup
from exporter.stats.arrays import Floats, Numbers, Positions, Vectors
from ingest.runtime.errors import PayloadError
from ingest.store.selection import MOST_VECTORS, Selection

_OPENING = 1_024
"""Opening a file takes as long as reading so many vectors."""


class Places(NamedTuple):
    """Where n vectors are: each has a number in a row group.

    Attributes
    ----------
    groups, numbers : ndarray of int32, shape (n,)
    """

    groups: Numbers
    numbers: Numbers

    def part(self, chosen: slice) -> Places:
        """Leave out all but some of the vectors."""
        return Places(self.groups[chosen], self.numbers[chosen])

    def stretches(self) -> Iterator[tuple[int, Numbers]]:
        """Give ever more numbers of a row group that grow, for as long as they do."""
        for first, stop in pairwise([0, *self._stops().tolist()]):
            yield int(self.groups[first]), self.numbers[first:stop]

    @property
    def effort(self) -> int:
        """What it takes to read the vectors in this order, in vectors that are read."""
        lasts = self.numbers[self._stops() - 1]
        # Of a row group, all must be read that comes before.
        return int(lasts.sum(dtype=np.int64)) + _OPENING * len(lasts)

    def _stops(self) -> Positions:
        """Tell where stretches end."""
        jumps = (np.diff(self.groups) != 0) | (np.diff(self.numbers) < 0)
        return np.flatnonzero(np.append(jumps, True)[: len(self.groups)]) + 1


@dataclass(frozen=True, slots=True)
class Route:
    """The way to some vectors that are read in the order of time, from row group to row group."""

    stretches: Sequence[tuple[RowGroup, Numbers]]

    def vectors(self, dataset: Dataset, dimension: int) -> Iterator[Vectors]:
        """Read them, shape (m, d), a few at a time."""
        for group, numbers in self.stretches:
            yield from dataset.vectors(group, numbers, dimension)


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """All vectors of a data set, by position: 0 for the oldest.

    Attributes
    ----------
    groups : list of RowGroup
    first : ndarray of int64, shape (groups + 1,)
        Place of the first vector of each row group, when they follow one another.
    times : ndarray of float64, shape (n,)
        Seconds since the epoch, oldest first.
    order : ndarray of int64, shape (n,)
        Place of each of these vectors; of one time, they keep the order of the files.
    """

    groups: list[RowGroup]
    first: Positions
    times: Floats
    order: Positions

    @classmethod
    def of(cls, dataset: Dataset, times: Sequence[Sequence[Floats]]) -> Stream:
        """Order the vectors of a data set, whose times are given by file and row group.

        Raises
        ------
        PayloadError
            If there are none.
        """
        groups = [
            RowGroup(file, number, len(found))
            for file, by_group in zip(dataset.files, times, strict=True)
            for number, found in enumerate(by_group)
        ]
        all_times = np.concatenate([np.empty(0), *(found for each in times for found in each)])
        if not len(all_times):
            raise PayloadError(f"{dataset.url} has no vectors of model {dataset.model_name}")
        # To microseconds, as the store keeps them: what a baseline was fitted to is told by time.
        np.round(all_times, 6, out=all_times)
        order = np.argsort(all_times, kind="stable")
        first = np.cumsum([0, *(group.vectors for group in groups)])
        return cls(groups, first, all_times[order], order)

    def file(self, position: int) -> str:
        """Tell which file holds a vector; -1 is the newest."""
        group = int(self.places(self.order[[position]]).groups[0])
        return self.groups[group].file

    def places(self, order: Positions) -> Places:
        """Tell the row groups of vectors, and their numbers there."""
        groups = np.searchsorted(self.first, order, "right") - 1
        numbers = order - self.first[groups]
        return Places(groups.astype(np.int32), numbers.astype(np.int32))

    def route(self, order: Positions) -> Route:
        """Tell the way to vectors, through the files as they are."""
        found = self.places(order).stretches()
        return Route([(self.groups[group], numbers) for group, numbers in found])

    @property
    def effort(self) -> int:
        """What it takes to read every vector once, in vectors that are read."""
        return len(self.times) + _OPENING * len(self.groups)

    def select(self, selection: Selection) -> Positions:
        """Choose vectors for a baseline, by their time.

        Returns
        -------
        ndarray of int64, shape (n,)
            Positions in the order of time; thinned evenly to ``MOST_VECTORS``.
        """
        first, stop = 0, selection.first or len(self.times)
        if selection.start is not None:
            first = int(np.searchsorted(self.times, selection.start.timestamp(), "left"))
        if selection.end is not None:
            stop = int(np.searchsorted(self.times, selection.end.timestamp(), "right"))
        chosen = np.arange(first, min(stop, len(self.times)))
        stride = -(-len(chosen) // MOST_VECTORS) or 1
        return chosen[stride - 1 :: stride]
