"""Read vectors from Parquet files on any file system of fsspec, a few rows at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import parquet

from exporter.backfill.remote import answering, open_file, shown
from ingest.runtime.errors import PayloadError

EMBEDDING = "embedding"
"""Name of the column of vectors."""
MODEL = "model_name"
"""Name of the column, or of the key in folder names, that tells models apart."""

_SUFFIX = ".parquet"
_BATCH = 2_048
"""Rows that are read at a time."""
_BUFFER_BYTES = 8 * 2**20
"""Bytes of a column that are read at a time. Without a buffer, a row group is read at once."""
_TICKS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
"""Ticks of a timestamp per second, by its unit."""
_EARLIEST, _LATEST = -62_135_596_800.0, 253_402_300_799.0
"""Years 1 and 9999, in seconds since the epoch: times outside are refused."""


class RowGroup(NamedTuple):
    """A row group of a file.

    Attributes
    ----------
    file : str
    number : int
        Its number in the file, from 0.
    vectors : int
        How many vectors of the model it has. They are numbered from 0.
    """

    file: str
    number: int
    vectors: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """The vectors of one model in Parquet files.

    The files have a column ``embedding`` of lists of numbers, and a column of times, as timestamps
    or in seconds since the epoch. If they have a column ``model_name``, rows of other models are
    left out. Files in folders ``model_name=...`` of other models are left out, too.

    Attributes
    ----------
    url : str
        Where the files are, without credentials.
    files : tuple of str
        Paths in the file system, sorted.
    model_name, time_column : str
    """

    filesystem: Any
    url: str
    files: tuple[str, ...]
    model_name: str
    time_column: str

    @classmethod
    def open(cls, url: str, model_name: str, time_column: str) -> Dataset:
        """Find the files of a folder, or use a single file.

        Raises
        ------
        PayloadError
            If there are no files of the model, or they cannot be read.
        """
        try:
            with answering():
                filesystem, root = fsspec.url_to_fs(url)
                found = [root] if filesystem.isfile(root) else sorted(filesystem.find(root))
        except OSError as error:
            raise PayloadError(f"{shown(url)} cannot be read: {shown(str(error))}") from error
        data = [path for path in found if path == root or _is_data(path[len(root) :])]
        if not data:
            raise PayloadError(f"{shown(url)} has no files that end in {_SUFFIX}")
        files = tuple(path for path in data if _may_hold(path, model_name))
        if not files:
            raise PayloadError(f"{shown(url)} has no folder {MODEL}=... of model {model_name}")
        place = shown(filesystem.unstrip_protocol(root))
        return cls(filesystem, place, files, model_name, time_column)

    def dimension(self) -> int | None:
        """Return the dimension of the first row group's first vector, or None if it has none.

        Raises
        ------
        PayloadError
            If the first file cannot be used.
        """
        with self._opened(self.files[0]) as opened:
            _check_columns(opened.schema_arrow, self.time_column)
            if not opened.num_row_groups:
                return None
        first_of_all = np.zeros(1, np.int32)
        with closing(self.vectors(RowGroup(self.files[0], 0, 1), first_of_all)) as found:
            first = next(found, None)
        return None if first is None else first.shape[1]

    def times(self, file: str) -> list[NDArray[np.float64]]:
        """Read the times of the model's vectors in a file: one array for each row group.

        Returns
        -------
        list of ndarray of float64, shape (n,)
            Seconds since the epoch, in the order of the rows.

        Raises
        ------
        PayloadError
            If a column is missing or of another type, or a time is missing or out of range.
        """
        with self._opened(file) as opened:
            _check_columns(opened.schema_arrow, self.time_column)
            columns = self._columns(opened, self.time_column)
            found = []
            first_row = 0
            for number in range(opened.num_row_groups):
                table = opened.read_row_group(number, columns, use_threads=False).combine_chunks()
                chosen = self._chosen(table, first_row)
                found.append(_seconds(table[self.time_column])[chosen.mask])
                _check_times(found[-1], chosen.rows, self.time_column)
                first_row += table.num_rows
        return found

    def vectors(
        self, group: RowGroup, numbers: NDArray[np.int32], dimension: int | None = None
    ) -> Generator[NDArray[np.float32], None, None]:
        """Read vectors of a row group, shape (m, d), a few at a time.

        Parameters
        ----------
        group : RowGroup
        numbers : ndarray of int32, shape (n,)
            Which of the model's vectors to read: at least one, in ascending order.
        dimension : int, optional
            Dimension that they must have. Default: that of the first vector.

        Raises
        ------
        PayloadError
            If a vector is missing, of another dimension or not finite.
        """
        with self._opened(group.file) as opened:
            columns = self._columns(opened, EMBEDDING)
            groups = range(group.number)
            first_row = sum(opened.metadata.row_group(at).num_rows for at in groups)
            seen = 0
            for batch in opened.iter_batches(_BATCH, [group.number], columns, use_threads=False):
                chosen = self._chosen(batch, first_row)
                here = np.searchsorted(numbers, [seen, seen + len(chosen.rows)])
                rows = chosen.rows[numbers[slice(*here)] - seen]
                if len(rows):
                    lists = batch[EMBEDDING].take(pa.array(rows - first_row))
                    dimension = dimension or pc.list_value_length(lists)[0].as_py() or 0
                    yield _matrix(lists, rows, dimension)
                if here[1] == len(numbers):
                    return
                seen += len(chosen.rows)
                first_row += batch.num_rows

    def name(self, file: str) -> str:
        """Return the URL of a file, without credentials."""
        return shown(self.filesystem.unstrip_protocol(file))

    @contextmanager
    def _opened(self, file: str) -> Iterator[parquet.ParquetFile]:
        try:
            with (
                open_file(self.filesystem, file, "rb") as stream,
                parquet.ParquetFile(stream, buffer_size=_BUFFER_BYTES) as opened,
            ):
                yield opened
        except (OSError, ValueError, pa.ArrowException) as error:
            raise PayloadError(f"{self.name(file)}: {shown(str(error))}") from error

    def _columns(self, opened: parquet.ParquetFile, column: str) -> list[str]:
        return [column, MODEL] if MODEL in opened.schema_arrow.names else [column]

    def _chosen(self, rows: pa.Table | pa.RecordBatch, first_row: int) -> _Chosen:
        if MODEL in rows.schema.names:
            equal = pc.equal(rows[MODEL].cast(pa.string()), self.model_name)
            mask = equal.fill_null(False).to_numpy(zero_copy_only=False)
        else:
            mask = np.ones(rows.num_rows, bool)
        return _Chosen(mask, first_row + np.flatnonzero(mask))


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The rows of a batch that belong to the model: a mask, and their numbers in the file."""

    mask: NDArray[np.bool_]
    rows: NDArray[np.intp]


def _may_hold(path: str, model_name: str) -> bool:
    """Return whether a path has no folder ``model_name=...`` of another model."""
    named = [part for part in path.split("/") if part.startswith(f"{MODEL}=")]
    return all(unquote(part.partition("=")[2]) == model_name for part in named)


def _is_data(path: str) -> bool:
    # Programs that write Parquet begin the names of other and of unfinished files so.
    hidden = any(part.startswith((".", "_")) for part in path.split("/"))
    return path.endswith(_SUFFIX) and not hidden


def _check_columns(schema: pa.Schema, time_column: str) -> None:
    for name in (EMBEDDING, time_column):
        if name not in schema.names:
            raise ValueError(f"has no column {name!r}; it has {', '.join(schema.names)}")
    kind = schema.field(EMBEDDING).type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not (is_list or pa.types.is_fixed_size_list(kind)) or not _is_number(kind.value_type):
        raise ValueError(f"column {EMBEDDING!r} is of type {kind}; allowed are lists of numbers")
    kind = schema.field(time_column).type
    if not (pa.types.is_timestamp(kind) or _is_number(kind)):
        raise ValueError(
            f"column {time_column!r} is of type {kind}; allowed are timestamps, and numbers of"
            " seconds since the epoch"
        )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _seconds(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Convert times to seconds since the epoch; a missing time is NaN."""
    ticks = 1.0
    if pa.types.is_timestamp(column.type):
        ticks = _TICKS[column.type.unit]
        column = column.cast(pa.int64())
    seconds: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy() / ticks
    return seconds


def _check_times(times: NDArray[np.float64], rows: NDArray[np.intp], name: str) -> None:
    sound = (times >= _EARLIEST) & (times <= _LATEST)
    if sound.all():
        return
    at = int(sound.argmin())
    value = "nothing" if np.isnan(times[at]) else f"{times[at]:.15g}"
    raise ValueError(
        f"row {rows[at]}: column {name!r} holds {value}; a time is needed, as a timestamp or in"
        " seconds since the epoch"
    )


def _matrix(lists: pa.Array, rows: NDArray[np.intp], dimension: int) -> NDArray[np.float32]:
    """Convert lists to an array of shape (n, dimension).

    Raises ValueError, naming the row, if a list is missing, too short or long, or not finite.
    """
    if lists.null_count:
        at = int(lists.is_null().to_numpy(zero_copy_only=False).argmax())
        raise ValueError(f"row {rows[at]}: column {EMBEDDING!r} holds no vector")
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    wrong = lengths != max(dimension, 1)
    if wrong.any():
        at = int(wrong.argmax())
        raise ValueError(
            f"row {rows[at]}: column {EMBEDDING!r} holds a vector of {lengths[at]} components;"
            f" {dimension or 'at least 1'} are needed"
        )
    numbers = lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, dimension)
    with np.errstate(over="ignore"):
        vectors = np.ascontiguousarray(numbers, np.float32)
    finite = np.isfinite(vectors)
    if not finite.all():
        at = int(finite.all(axis=1).argmin())
        raise ValueError(
            f"row {rows[at]}: column {EMBEDDING!r} holds a vector whose component"
            f" {int(finite[at].argmin())} is missing, NaN, infinite or too large for float32"
        )
    return vectors
