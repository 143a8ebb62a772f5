"""The vectors of a data set in the order of time: their times, and where they are stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from exporter.backfill.dataset import Dataset, Part, Survey
from exporter.stats.arrays import Floats, Numbers, Positions, Vectors
from ingest.runtime.errors import PayloadError
from ingest.store.selection import Selection, Stretches

_OPENING = 1_024
"""Cost of opening a file, in vectors that can be read in the same time."""


class Places(NamedTuple):
    """Where n vectors are stored: each has a part, and a number in it.

    Attributes
    ----------
    groups, numbers : ndarray of int32, shape (n,)
    """

    groups: Numbers
    numbers: Numbers

    def part(self, chosen: slice) -> Places:
        """Return the places of some of the vectors."""
        return Places(self.groups[chosen], self.numbers[chosen])

    def stretches(self) -> Iterator[tuple[int, Numbers]]:
        """Cut the places into stretches that can be read in one pass.

        A stretch is of one part, and its numbers ascend.
        """
        for first, stop in pairwise([0, *self._stops().tolist()]):
            yield int(self.groups[first]), self.numbers[first:stop]

    @property
    def effort(self) -> int:
        """Cost of reading the vectors in this order, as a number of vectors."""
        lasts = self.numbers[self._stops() - 1]
        # Everything before a vector in its part must be read, too.
        return int(lasts.sum(dtype=np.int64)) + _OPENING * len(lasts)

    def _stops(self) -> Positions:
        """Return where each stretch ends."""
        jumps = (np.diff(self.groups) != 0) | (np.diff(self.numbers) < 0)
        return np.flatnonzero(np.append(jumps, True)[: len(self.groups)]) + 1


@dataclass(frozen=True, slots=True)
class Route:
    """Vectors that are read from the files, stretch by stretch."""

    stretches: Sequence[tuple[Part, Numbers]]

    def vectors(self, dataset: Dataset, dimension: int) -> Iterator[Vectors]:
        """Read the vectors in the order of the stretches, shape (m, d), a few at a time."""
        for group, numbers in self.stretches:
            yield from dataset.vectors(group, numbers, dimension)


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """All vectors of a data set by their position in time: 0 is the oldest.

    Attributes
    ----------
    groups : list of Part
    first : ndarray of int64, shape (groups + 1,)
        Index of each part's first vector, when all parts are concatenated.
    times : ndarray of float64, shape (n,)
        Seconds since the epoch, oldest first.
    order : ndarray of int64, shape (n,)
        Index of each vector, oldest first, in the same concatenation. Vectors of one time keep the
        order of the files.
    """

    groups: list[Part]
    first: Positions
    times: Floats
    order: Positions

    @classmethod
    def of(cls, dataset: Dataset, surveys: Sequence[Survey]) -> Stream:
        """Sort the vectors of a data set by time, given the surveys of its files.

        Raises
        ------
        PayloadError
            If there are no vectors.
        """
        groups = [
            Part(file, number, len(times), survey.stamp)
            for file, survey in zip(dataset.files, surveys, strict=True)
            for number, times in enumerate(survey.times)
        ]
        found = [times for survey in surveys for times in survey.times]
        all_times = np.concatenate([np.empty(0), *found])
        if not len(all_times):
            raise PayloadError(f"{dataset.url} has no vectors of model {dataset.model_name}")
        # The store has microseconds, and compares these times with those of a baseline.
        np.round(all_times, 6, out=all_times)
        order = np.argsort(all_times, kind="stable")
        first = np.cumsum([0, *(group.vectors for group in groups)])
        return cls(groups, first, all_times[order], order)

    def without(self, positions: Positions) -> Stream:
        """Leave out vectors."""
        kept = np.ones(len(self.times), np.bool_)
        kept[positions] = False
        return Stream(self.groups, self.first, self.times[kept], self.order[kept])

    def repeats(self, surveys: Sequence[Survey]) -> tuple[Positions, Positions]:
        """Find vectors whose id came before, given the surveys of the files.

        Returns
        -------
        later, earlier : ndarray of int64, shape (r,)
            Positions of these vectors, and of the last vector of the same id before each.
        """
        ids = np.concatenate([hashes for survey in surveys for hashes in survey.ids])[self.order]
        by_id = np.argsort(ids, kind="stable")
        ids = ids[by_id]
        same = np.flatnonzero((ids[1:] == ids[:-1]) & (ids[1:] != 0))
        return by_id[same + 1], by_id[same]

    def file(self, position: int) -> str:
        """Return the file that has the vector at a position; -1 is the newest."""
        group = int(self.places(self.order[[position]]).groups[0])
        return self.groups[group].file

    def places(self, order: Positions) -> Places:
        """Return the places of vectors, given their indices."""
        groups = np.searchsorted(self.first, order, "right") - 1
        numbers = order - self.first[groups]
        return Places(groups.astype(np.int32), numbers.astype(np.int32))

    def route(self, order: Positions) -> Route:
        """Return how to read vectors from the files, given their indices."""
        found = self.places(order).stretches()
        return Route([(self.groups[group], numbers) for group, numbers in found])

    @property
    def effort(self) -> int:
        """Cost of reading every vector once, as a number of vectors."""
        return len(self.times) + _OPENING * len(self.groups)

    def select(self, selection: Selection) -> Positions:
        """Select vectors for a baseline.

        Returns
        -------
        ndarray of int64, shape (n,)
            Positions, ascending; at most ``selection.most``.
        """
        first, stop = 0, selection.first or len(self.times)
        if selection.start is not None:
            first = int(np.searchsorted(self.times, selection.start.timestamp(), "left"))
        if selection.end is not None:
            stop = int(np.searchsorted(self.times, selection.end.timestamp(), "right"))
        chosen = np.arange(first, min(stop, len(self.times)))
        return chosen[Stretches.of(len(chosen), selection.most).places(len(chosen))]
