"""The vectors of one model in files, of any format and on any file system, a few rows at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from exporter.stats.arrays import Numbers, Positions, Vectors
from ingest.files.columns import Options
from ingest.files.names import MODEL, TIMESTAMP
from ingest.files.reader import SUFFIXES, Dimensions, File, Rows, Want, naming, opened
from ingest.files.remote import answering
from ingest.files.source import Source, partitions
from ingest.runtime.errors import PayloadError

Hashes = NDArray[np.uint64]

_STAMPS = {"size", "mtime", "etag", "lastmodified", "last_modified", "last-modified", "updated"}
"""What file systems call the size, time and version of a file. Owners and inodes, which they know,
too, may differ between machines."""


class Part(NamedTuple):
    """A part of a file that can be read by itself: a row group of Parquet, or else all of it.

    Attributes
    ----------
    file : str
    number : int
        Its number in the file, from 0.
    vectors : int
        How many vectors of the model it has. They are numbered from 0.
    stamp : str
        Size, time and version of the file when it was surveyed.
    """

    file: str
    number: int
    vectors: int
    stamp: str


class Survey(NamedTuple):
    """When the vectors of a file were made, and their ids.

    Attributes
    ----------
    times : list of ndarray of float64, shape (n,)
        Of each part, in the order of the rows: seconds since the epoch.
    ids : list of ndarray of uint64, shape (n,)
        Of each part: hashes of the ids, 0 without one.
    skipped : int
        Rows that cannot be used.
    reason : str
        What is wrong with the first of them.
    stamp : str
        See `Part`.
    """

    times: list[NDArray[np.float64]]
    ids: list[Hashes]
    skipped: int
    reason: str
    stamp: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """The vectors of one model in files.

    If the files have a column of models, rows of other models are left out. Files in folders
    ``model_name=...`` of other models are not opened.

    Attributes
    ----------
    source : Source
    model_name : str
    options : Options
    skips : bool
        Whether rows that cannot be used are left out. Otherwise they are errors.
    expected : int or None
        Dimension of the vectors, if rows of another one are to be left out.
    once : bool
        Whether any second vector of an id is left out, rather than only the same one.
    """

    source: Source
    model_name: str
    options: Options = field(default_factory=Options)
    skips: bool = False
    expected: int | None = None
    once: bool = False

    @classmethod
    def open(
        cls,
        url: str,
        model_name: str,
        options: Options | None = None,
        skips: bool = False,
        once: bool = False,
    ) -> Dataset:
        """Find the files of a folder or pattern, or use a single file.

        Raises
        ------
        PayloadError
            If there are no files of the model, or they cannot be read.
        """
        options = options or Options()
        found = Source.find(url, SUFFIXES)
        key = options.model or MODEL
        files = tuple(
            file for file in found.files if partitions(file).get(key, model_name) == model_name
        )
        if not files:
            raise PayloadError(f"{found.url} has no folder {key}=... of model {model_name}")
        source = dataclasses.replace(found, files=files)
        dataset = cls(source, model_name, options, skips, once=once)
        return dataclasses.replace(dataset, expected=dataset.dimension()) if skips else dataset

    @property
    def url(self) -> str:
        """Where the files are, without credentials."""
        return self.source.url

    @property
    def files(self) -> Sequence[str]:
        """Paths in the file system, sorted."""
        return self.source.files

    @property
    def time_column(self) -> str:
        """Name of the column of times."""
        return self.options.time or TIMESTAMP

    def dimension(self) -> int | None:
        """Return the dimension of the first good vector, or None if there is none.

        Raises
        ------
        PayloadError
            If a file cannot be used.
        """
        for file in self.files:
            with opened(self.source, file, self.options) as content:
                self._check(content)
                for part in range(content.parts):
                    with closing(self._rows(content, part, None)) as blocks:
                        for rows, chosen in blocks:
                            if len(chosen):
                                return len(rows.vectors[chosen[0]])
        return None

    def survey(self, file: str) -> Survey:
        """Read the times and ids of the model's vectors in a file.

        Raises
        ------
        PayloadError
            If a column is missing or of another type, or a time is missing or out of range.
        """
        found: list[NDArray[np.float64]] = []
        ids: list[Hashes] = []
        skipped, reason = 0, ""
        with opened(self.source, file, self.options) as content:
            self._check(content)
            stamp = self._stamp(file)
            want: tuple[Want, ...] = ("times", "models", "ids")
            for part in range(content.parts):
                times, hashes = [np.empty(0)], [np.empty(0, np.uint64)]
                for rows, chosen in self._rows(content, part, self.expected, want):
                    times.append(rows.times[chosen])
                    hashes.append(_id_hashes(rows, chosen))
                    skipped += len(rows.faults)
                    reason = reason or next(map(str, rows.faults), "")
                found.append(np.concatenate(times))
                ids.append(np.concatenate(hashes))
        return Survey(found, ids, skipped, reason, stamp)

    def vectors(
        self, part: Part, numbers: Numbers, dimension: int | None = None
    ) -> Generator[Vectors, None, None]:
        """Read vectors of a part, shape (m, d), a few at a time.

        Parameters
        ----------
        part : Part
        numbers : ndarray of int32, shape (n,)
            Which of the model's vectors to read: at least one, in ascending order.
        dimension : int, optional
            Dimension that they must have. Default: that of most vectors that are read first.

        Raises
        ------
        PayloadError
            If a vector is missing, of another dimension or not finite, or the file has changed.
        """
        seen = 0
        with opened(self.source, part.file, self.options) as content:
            self._check_same(part)
            want: tuple[Want, ...] = ("vectors", "models")
            for rows, chosen in self._rows(content, part.number, self.expected or dimension, want):
                here = np.searchsorted(numbers, [seen, seen + len(chosen)])
                wanted = chosen[numbers[slice(*here)] - seen]
                if here[1] == len(numbers):
                    # Before the last vectors: what is read after them is not asked for.
                    self._check_same(part)
                    yield np.stack(list(rows.vectors[wanted]))
                    return
                if len(wanted):
                    yield np.stack(list(rows.vectors[wanted]))
                seen += len(chosen)
        raise self._changed(part)

    def fingerprints(self, part: Part, numbers: Numbers) -> Hashes:
        """Return hashes of vectors of a part, as `vectors` reads them, shape (n,)."""
        batches = self.vectors(part, numbers)
        return np.array([_hash(each.tobytes()) for batch in batches for each in batch], np.uint64)

    def name(self, file: str) -> str:
        """Return the URL of a file, without credentials."""
        return self.source.name(file)

    def _stamp(self, file: str) -> str:
        """Return the size, time and version of a file, as far as its file system knows them."""
        with naming(self.name(file)), answering():
            info = self.source.filesystem.info(file)
        return str({name: info[name] for name in sorted(info) if name.lower() in _STAMPS})

    def _check_same(self, part: Part) -> None:
        if self._stamp(part.file) != part.stamp:
            raise self._changed(part)

    def _changed(self, part: Part) -> PayloadError:
        return PayloadError(f"{self.name(part.file)}: changed while it was read; start again")

    def _check(self, content: File) -> None:
        if content.choice is not None and content.choice.time is None:
            raise PayloadError(
                f"{content.name}: has no column {self.time_column!r} with the time at which a"
                f" vector was made; {content.columns}. --time-column names another"
            )

    def _rows(
        self,
        content: File,
        part: int,
        dimension: int | None,
        want: tuple[Want, ...] = ("vectors", "models"),
    ) -> Generator[tuple[Rows, Positions], None, None]:
        """Yield rows of a part, and which of them are the model's."""
        if self.skips:
            # A row must be bad in every pass, or in none.
            want = ("vectors", "times", "models", "ids")
        dimensions = Dimensions()
        if dimension is not None:
            dimensions.known = {None: dimension, self.model_name: dimension}
        for rows in content.rows(part, want, dimensions):
            if rows.faults and not self.skips:
                raise PayloadError(str(rows.faults[0]))
            chosen = np.arange(len(rows))
            if rows.models:
                chosen = np.flatnonzero(np.array(rows.models, object) == self.model_name)
            if len(rows.times):
                chosen, rows = self._timed(rows, chosen)
            yield rows, chosen

    def _timed(self, rows: Rows, chosen: Positions) -> tuple[Positions, Rows]:
        """Leave out rows without a time."""
        missing = np.isnan(rows.times[chosen])
        if not missing.any():
            return chosen, rows
        reason = f"has no time in column {self.time_column!r}"
        faults = [rows.fault(row, reason) for row in chosen[missing].tolist()]
        if not self.skips:
            raise PayloadError(str(faults[0]))
        return chosen[~missing], dataclasses.replace(rows, faults=[*rows.faults, *faults])


def _id_hashes(rows: Rows, chosen: Positions) -> Hashes:
    found = np.zeros(len(chosen), np.uint64)
    if rows.ids:
        ids = (rows.ids[row] for row in chosen.tolist())
        found[:] = [
            0 if each is None else _hash(each.encode(errors="surrogatepass")) for each in ids
        ]
    return found


def _hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest())
