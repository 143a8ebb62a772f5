"""Sort vectors by time on disk, for files that are not ordered by time."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from exporter.backfill.dataset import Dataset
from exporter.backfill.timeline import Places
from exporter.stats.arrays import Numbers, Positions, Vectors
from ingest.files.remote import answering, filesystem_of, open_file, shown
from ingest.runtime.errors import ClusterFailed

_log = logging.getLogger(__name__)

_SORTED = 32_768
"""Number of vectors that are sorted at a time, in memory."""
_READ = 8_192
"""Number of vectors that are read at a time, some from each part."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """A folder with one file for each part.

    A file has the vectors of a part as little-endian float32. Every ``_SORTED`` slots in a row
    are in the order of time, so vectors that are read together are stored together.

    Attributes
    ----------
    filesystem : fsspec.AbstractFileSystem
    folder : str
        Path in the file system.
    dimension : int
    """

    filesystem: Any
    folder: str
    dimension: int

    @classmethod
    @contextmanager
    def open(cls, url: str, dimension: int) -> Iterator[Scratch]:
        """Create a folder where all workers can reach it, and remove it on exit.

        Raises
        ------
        ClusterFailed
            If the folder cannot be created.
        """
        with _usable(url):
            filesystem, root = filesystem_of(url)
            folder = f"{root.rstrip('/')}/embedding-drift-{uuid.uuid4().hex}"
            with answering():
                filesystem.makedirs(folder)
        try:
            yield cls(filesystem, folder, dimension)
        finally:
            try:
                with answering():
                    filesystem.rm(folder, recursive=True)
            except OSError as error:
                place = shown(filesystem.unstrip_protocol(folder))
                details = {"folder": place, "error": shown(str(error))}
                _log.warning("scratch folder cannot be removed", extra=details)

    def write(self, group: int, slots: Numbers, vectors: Iterable[Vectors]) -> None:
        """Write the vectors of a part, each to its slot: see :func:`slots_of`."""
        held = np.empty((min(_SORTED, len(slots)), self.dimension), "<f4")
        done = 0
        with _usable(self.folder), open_file(self.filesystem, self._path(group), "wb") as file:
            for batch in vectors:
                while len(batch):
                    head, batch = np.split(batch, [_SORTED - done % _SORTED])
                    held[slots[done : done + len(head)] % _SORTED] = head
                    done += len(head)
                    if done % _SORTED == 0 or done == len(slots):
                        file.write(held[: (done - 1) % _SORTED + 1].data)

    def read(self, places: Places) -> Iterator[Vectors]:
        """Read vectors in the order of their places, a few at a time. Their numbers are slots."""
        for first in range(0, len(places.groups), _READ):
            yield self._gather(places.part(slice(first, first + _READ)))

    def _gather(self, places: Places) -> Vectors:
        order = np.lexsort((places.numbers, places.groups))
        groups, slots = places.groups[order], places.numbers[order]
        apart = (np.diff(groups) != 0) | (np.diff(slots) != 1)
        firsts = np.flatnonzero(np.append(True, apart))
        stops = np.append(firsts[1:], len(order))
        row = 4 * self.dimension
        with _usable(self.folder), answering():
            found = self.filesystem.cat_ranges(
                [self._path(group) for group in groups[firsts].tolist()],
                (row * slots[firsts].astype(np.int64)).tolist(),
                (row * (slots[stops - 1].astype(np.int64) + 1)).tolist(),
                on_error="raise",
            )
        vectors = np.empty((len(order), self.dimension), np.float32)
        for first, stop, data in zip(firsts, stops, found, strict=True):
            vectors[order[first:stop]] = np.frombuffer(data, "<f4").reshape(-1, self.dimension)
        return vectors

    def _path(self, group: int) -> str:
        return f"{self.folder}/{group}"


@dataclass(frozen=True, slots=True)
class SortedRoute:
    """Vectors that are read from a scratch folder."""

    scratch: Scratch
    places: Places

    def vectors(self, dataset: Dataset, dimension: int) -> Iterator[Vectors]:
        """Read the vectors in the order of time, shape (m, d), a few at a time."""
        return self.scratch.read(self.places)


def slots_of(positions: Positions) -> Numbers:
    """Return the slots of a part's vectors.

    Parameters
    ----------
    positions : ndarray of int64, shape (n,)
        Positions of the vectors in the order of time, in the order of the file.

    Returns
    -------
    ndarray of int32, shape (n,)
    """
    found = np.empty(len(positions), np.int32)
    for first in range(0, len(positions), _SORTED):
        order = first + np.argsort(positions[first : first + _SORTED])
        found[order] = np.arange(first, first + len(order))
    return found


@contextmanager
def _usable(place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"scratch {shown(place)} cannot be used: {shown(str(error))}"
        raise ClusterFailed(message) from error
