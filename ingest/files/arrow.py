"""Read Parquet and Arrow files with pyarrow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import IO, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import parquet

from ingest.files import vectors
from ingest.files.table import (
    CHUNK,
    INEXACT,
    Chunk,
    Column,
    Kind,
    Objects,
    Times,
    Vectors,
    inexact_from,
    kind_of,
    naive_seconds,
)

_BUFFER_BYTES = 8 * 2**20
"""Bytes of a column that are read at a time. Without a buffer, a row group is read at once."""


class ArrowColumn:
    """A column in memory that Arrow lays out."""

    def __init__(self, array: pa.Array) -> None:
        if isinstance(array, pa.UuidArray):
            texts = [None if value is None else str(value) for value in array.to_pylist()]
            array = pa.array(texts, pa.string())
        elif isinstance(array, pa.ExtensionArray):
            array = array.storage
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if _is_list(array.type) and pa.types.is_decimal(array.type.value_type):
            array = array.cast(pa.list_(pa.float64()))  # DuckDB makes decimals of [0.1, 0.2]
        self._array = array

    @property
    def inexact_from(self) -> float:
        """Return the limit of the array's type."""
        kind = self._array.type
        return inexact_from(kind.to_pandas_dtype()) if pa.types.is_floating(kind) else INEXACT

    def vectors(self) -> Vectors:
        """Read lists of one length without a copy of each."""
        array = self._array
        if _is_list(array.type) and not array.null_count and len(array):
            dimension = _dimension(array)
            numbers = _numbers(array, dimension)
            if dimension and not numbers.null_count:
                with np.errstate(over="ignore", invalid="ignore"):
                    flat: NDArray[np.float32] = numbers.to_numpy(zero_copy_only=False).astype(
                        np.float32, copy=False
                    )
                return flat.reshape(-1, dimension)
        if _is_list(array.type):
            return [vectors.read(_components(row)) for row in array]
        return list(map(vectors.read, array.to_pylist()))

    def seconds(self, times: Times) -> NDArray[np.float64] | Sequence[float | str]:
        """Read timestamps, dates, numbers or texts."""
        array = self._array
        if pa.types.is_date(array.type):
            array = array.cast(pa.timestamp("us"))
        if not pa.types.is_timestamp(array.type):
            return Objects(array.to_pylist()).seconds(times)
        moments = array.cast(pa.timestamp(array.type.unit)).to_numpy(zero_copy_only=False)
        return naive_seconds(moments, Times() if array.type.tz else times)

    def numbers(self) -> NDArray[np.floating[Any]]:
        """Read numbers; null is NaN."""
        array = self._array
        if pa.types.is_decimal(array.type):
            array = array.cast(pa.float64())
        found: NDArray[np.floating[Any]] = array.to_numpy(zero_copy_only=False)
        return found.astype(np.float64)

    def values(self) -> list[Any]:
        """Return Python objects, times to a microsecond."""
        array = self._array
        # Coarser units are left as they are: as microseconds, times far away would wrap around.
        if pa.types.is_timestamp(array.type) and array.type.unit == "ns":
            array = array.cast(pa.timestamp("us", array.type.tz), safe=False)
        if pa.types.is_float16(array.type):
            array = array.cast(pa.float64())  # older releases would make NumPy's floats of them
        try:
            values = list(array.to_pylist())
        except (ValueError, OverflowError):
            values = list(map(_object, array))
        if pa.types.is_map(array.type) and _is_text(array.type.key_type):
            return [None if pairs is None else dict(pairs) for pairs in values]
        return values


def _numbers(array: pa.Array, dimension: int | None) -> pa.Array:
    """Return the components of lists, none of which is null."""
    if dimension and pa.types.is_fixed_size_list(array.type):
        # What flatten() does besides takes longer than the rest of reading a short batch.
        return array.values.slice(dimension * array.offset, dimension * len(array))
    return array.flatten()


def _components(row: pa.ListScalar) -> Any:
    """Return the components of a list as an array; as Python's numbers if one is null.

    Reading them as Python's numbers takes 40 to 300 times as long.
    """
    values = row.values
    if values is None or values.null_count:
        return row.as_py()
    return values.to_numpy(zero_copy_only=False)


def _dimension(array: pa.Array) -> int | None:
    """Return the length of lists; None if they differ."""
    if pa.types.is_fixed_size_list(array.type):
        return int(array.type.list_size)
    lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False)
    return int(lengths[0]) if (lengths == lengths[0]).all() else None


def _object(value: pa.Scalar) -> Any:
    """Return a value; as text, or None, if it is or holds a time that datetime cannot hold."""
    try:
        return value.as_py()
    except (ValueError, OverflowError):
        if pa.types.is_timestamp(value.type):
            return str(np.datetime64(value.value, value.type.unit))
    try:
        return value.cast(pa.string()).as_py()
    except pa.ArrowNotImplementedError:
        return None


class _Frames:
    """What Parquet and Arrow have in common: a schema."""

    unit: Literal["row", "line"] = "row"

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        names = schema.names
        if len(set(names)) < len(names):
            [(name, _)] = Counter(names).most_common(1)
            raise ValueError(f"has two columns named {name!r:.80}; rename or drop one of them")
        self._types: dict[str, pa.DataType] = {}
        self.objects: dict[str, str] = {}
        for name, outer, kind in _flat(schema):
            if outer is None:
                self._types[name] = kind
            elif name not in names:
                self._types[name] = kind
                self.objects[name] = outer

    @cached_property
    def kinds(self) -> Mapping[str, Kind]:
        """Return the columns; fields of structs are `outer.inner`."""
        samples = self._samples()
        return {name: _kind(kind, samples.get(name)) for name, kind in self._types.items()}

    def _samples(self) -> Mapping[str, Any]:
        """Return a value of each column of texts or bytes, if one of the first is not null."""
        ambiguous = [field.name for field in self._schema if _is_ambiguous(field.type)]
        found: dict[str, Any] = {}
        count = 0
        if ambiguous:
            for batch in self._head(ambiguous):
                for name in ambiguous:
                    for value in ArrowColumn(batch[name]).values():
                        if found.get(name) is None:
                            found[name] = value
                count += batch.num_rows
                # A column of nulls would have all others read to their end.
                if count >= CHUNK or None not in found.values():
                    break
        return found

    def _head(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        raise NotImplementedError

    def _chunk(self, batch: pa.RecordBatch, names: Sequence[str], first: int) -> Chunk:
        # Once: to look a name up in the batch takes a time that grows with its columns.
        arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
        columns: dict[str, Column] = {
            name: ArrowColumn(self._array(arrays, name)) for name in names
        }
        places = range(first, first + batch.num_rows)
        return Chunk(columns, places, places)

    def _array(self, arrays: Mapping[str, pa.Array], name: str) -> pa.Array:
        outer = self.objects.get(name)
        if outer is None:
            return arrays[name]
        return pc.struct_field(self._array(arrays, outer), [name[len(outer) + 1 :]])


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        return False
    return _is_number(kind.value_type)


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_floating(kind) or types.is_integer(kind) or types.is_decimal(kind))


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_ambiguous(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    types = pa.types
    return bool(
        _is_text(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
        or (types.is_list(kind) and _is_list(kind.value_type))
    )


def _flat(
    fields: Iterable[pa.Field], outer: str | None = None
) -> Iterator[tuple[str, str | None, pa.DataType]]:
    """Yield names, the structs around them, and types; a field of one is `outer.inner`."""
    for field in fields:
        name = field.name if outer is None else f"{outer}.{field.name}"
        is_extension = isinstance(field.type, pa.BaseExtensionType)
        kind = field.type.storage_type if is_extension else field.type
        yield name, outer, kind
        if pa.types.is_struct(kind):
            yield from _flat(kind, name)


def _kind(kind: pa.DataType, sample: Any) -> Kind:
    if _is_list(kind):
        return Kind.VECTORS
    return Kind.NUMBERS if _is_number(kind) else kind_of(sample)


class Batches(_Frames):
    """Record batches in memory, which are valid."""

    parts = 1

    def __init__(self, schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> None:
        self._batches = batches
        super().__init__(schema)

    def chunks(self, part: int, names: Sequence[str]) -> Iterator[Chunk]:
        """Return all batches."""
        first = 0
        for batch in self._batches:
            yield self._chunk(batch, names, first)
            first += batch.num_rows

    def _head(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        yield from self._batches


class Parquet(_Frames):
    """A Parquet file. Its parts are the row groups."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = parquet.ParquetFile(file, buffer_size=_BUFFER_BYTES)
        super().__init__(self._file.schema_arrow)
        groups = range(self._file.num_row_groups)
        sizes = [self._file.metadata.row_group(group).num_rows for group in groups]
        self._first = np.cumsum([0, *sizes]).tolist()

    @property
    def parts(self) -> int:
        """Number of row groups."""
        return int(self._file.num_row_groups)

    def chunks(self, part: int, names: Sequence[str]) -> Iterator[Chunk]:
        """Read a row group."""
        first = self._first[part]
        for batch in self._file.iter_batches(CHUNK, [part], list(names), use_threads=False):
            yield self._chunk(batch, names, first)
            first += batch.num_rows

    def _head(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        # One group after the other: all of them at once would be read ahead.
        for part in range(self.parts):
            yield from self._file.iter_batches(CHUNK, [part], list(names), use_threads=False)


class Arrow(_Frames):
    """A file of Arrow's IPC format: Feather, or a stream as Hugging Face's datasets write it."""

    parts = 1

    def __init__(self, file: IO[bytes]) -> None:
        start = file.read(6)
        file.seek(0)
        self._is_file = start == b"ARROW1"
        self._file = file
        self._reader = self._opened()
        super().__init__(self._reader.schema)

    def chunks(self, part: int, names: Sequence[str]) -> Iterator[Chunk]:
        """Read all record batches."""
        first = 0
        for batch in self._batches():
            # Arrow trusts the file: damaged offsets would be read from anywhere in memory.
            batch.validate(full=True)
            for at in range(0, batch.num_rows, CHUNK):
                some = batch.slice(at, CHUNK)
                yield self._chunk(some, names, first)
                first += some.num_rows

    def _opened(self) -> Any:
        self._file.seek(0)
        return pa.ipc.open_file(self._file) if self._is_file else pa.ipc.open_stream(self._file)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        reader = self._opened()
        if self._is_file:
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)
        else:
            yield from reader
            if self._file.read(1):
                raise ValueError(
                    "has more after the end of its stream; write each stream to a file of its own"
                )

    def _head(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for batch in self._batches():
            batch.validate(full=True)
            yield batch.slice(0, CHUNK)
