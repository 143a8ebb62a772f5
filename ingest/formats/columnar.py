"""Arrow streams and Parquet files, read as the commands read files: a column is found by its name.

Nothing is decompressed before it is known how much comes out. So the buffers of an Arrow stream may
not be compressed; ``Content-Encoding`` is bounded.
"""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ingest.files import dtypes
from ingest.files.columns import Choice, Options, choose
from ingest.files.names import ID, METADATA, MODEL, TEXT, TIMESTAMP
from ingest.files.reader import id_text, wrong_id
from ingest.files.table import Chunk, Column, Table, Times
from ingest.files.vectors import bytes_of
from ingest.formats import checks, messages
from ingest.formats.format import Format, Place
from ingest.formats.parameters import Parameters
from ingest.runtime.errors import BodyTooLarge, PayloadError, Problem, UnsupportedMediaType
from ingest.runtime.extras import missing
from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch

Opener = Callable[[bytes, IngestSettings], Table]

_OPTION = re.compile(r"[;.,]? (?:[^;.]*)--[a-z]+-(?:column|zone|unit).*$", re.DOTALL)
"""What an error advises for a command, which has options."""
_OTHER_COLUMNS = 256
"""Columns that a body may have beside one for each component."""
_SHARING = ("list_view", "large_list_view", "run_end_encoded", "dense_union", "sparse_union")
"""Types whose rows may share a value, so that a short body holds very much."""
_NUMBER_BYTES, _VALUE_BYTES, _LIST_BYTES, _OBJECT_BYTES = 4, 8, 64, 256
"""What a number, another value, a list and an object count, however few bytes of the body they
take. As values of Python, numbers and others take up to ten times that."""
_SHORT_BYTES = 1024 * 1024
_FEW_VALUES = 1_000
"""What the event loop may wait for: a value takes up to 25 microseconds, numbers apart."""
_ADVICE = "send float32 or lists of numbers, or set dtype to float32 if it is float32"
"""What to do if bytes seem to be of another type than float32, the only one in columns."""
_SINGLE = (ID, "ids", "_id", MODEL, TEXT, TIMESTAMP)
"""Columns that hold no vectors, even if they are lists of numbers."""
_has_library = threading.Event()
"""Set once pyarrow is imported, for which the event loop must not wait."""
_DAMAGED = (
    ValueError,
    OSError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
)
"""Errors that pyarrow raises for a damaged body."""


def read(
    body: bytes, parameters: Parameters, limits: IngestSettings, now: float, opener: Opener
) -> Batch:
    """Read vectors, ids, times, the model and metadata by column."""
    if not body:
        raise PayloadError("the body is empty")
    dtype = parameters.checked_dtype()
    try:
        table = opener(body, limits)
        choice = _chosen(table)
        names = [*choice.vectors, choice.id, choice.time, choice.model, choice.text, *choice.others]
        wanted = list(dict.fromkeys(name for name in names if name is not None))
        rows = _Rows(choice, dtype, limits, now)
        for chunk in table.chunks(0, wanted):
            rows.add(chunk)
    except ModuleNotFoundError as error:
        raise UnsupportedMediaType(
            f"this content type needs {missing(error, 'files')} at the server: pip install"
            " 'embedding-drift-exporter[files]'"
        ) from error
    except PayloadError:
        raise
    except _DAMAGED as error:
        raise PayloadError(
            f"the body is damaged, truncated or of another format: {error}"
        ) from error
    return rows.batch(parameters)


def _chosen(table: Table) -> Choice:
    try:
        choice = choose(table.kinds, Options(), table.objects)
    except ValueError as error:
        told = _OPTION.sub("", str(error))
        raise PayloadError(f'the body {told}; name the column of vectors "embedding"') from error
    if len(choice.others) > _OTHER_COLUMNS:
        raise BodyTooLarge(
            f"the body has {len(choice.others)} columns of metadata; allowed are at most"
            f" {_OTHER_COLUMNS}"
        )
    return choice


class _Rows:
    """What has been read of a body, and what is wrong with it."""

    def __init__(
        self, choice: Choice, dtype: str | None, limits: IngestSettings, now: float
    ) -> None:
        self._choice = choice
        self._dtype = dtype
        self._limits = limits
        self._now = now
        self._vectors: list[NDArray[np.float32]] = []
        self._ids: list[str | None] = []
        self._times: list[float | None] = []
        self._metadata: list[bytes | None] = []
        self._models: set[Any] = set()
        self._problems: list[Problem] = []
        self._count = 0

    def add(self, chunk: Chunk) -> None:
        """Read some rows."""
        checks.count(self._count + len(chunk) or 1, self._limits)
        if not len(chunk):
            return
        choice = self._choice
        self._add_vectors(chunk)
        if choice.id is not None:
            self._add_ids(chunk.columns[choice.id])
        if choice.time is not None:
            self._add_times(chunk.columns[choice.time])
        if choice.model is not None:
            self._models.update(chunk.columns[choice.model].values())
        if choice.text is not None or choice.others:
            self._add_metadata(chunk)
        self._count += len(chunk)

    def batch(self, parameters: Parameters) -> Batch:
        """Return the batch.

        Raises
        ------
        PayloadError
            Listing everything that is wrong.
        """
        checks.count(self._count, self._limits)
        if len(self._models) > 1 and parameters.model_name is None:
            shown = ", ".join(sorted(f"{name!r:.40}" for name in self._models)[:3])
            raise PayloadError(f"the body has rows of several models, {shown}; send each by itself")
        named = next((str(name) for name in self._models if name is not None), None)
        name = parameters.checked_model_name(named, f"/{self._choice.model or 'model_name'}")
        ids = self._ids if any(id_ is not None for id_ in self._ids) else None
        problems = [*self._problems, *checks.ids(ids or ())]
        if problems:
            raise checks.refuse(problems)
        vectors = self._vectors[0] if len(self._vectors) == 1 else np.concatenate(self._vectors)
        return Batch(name, vectors, ids, self._metadata or None, self._times or None)

    def _add_vectors(self, chunk: Chunk) -> None:
        found: Any
        if self._choice.is_wide:
            parts = [chunk.columns[name].numbers() for name in self._choice.vectors]
            with np.errstate(over="ignore", invalid="ignore"):
                found = np.stack(parts, axis=1).astype(np.float32)
        else:
            found = chunk.columns[self._choice.vectors[0]].vectors()
        if not isinstance(found, np.ndarray):
            found = self._stacked(found)
        if found is None:
            return
        dimension = self._vectors[0].shape[1] if self._vectors else found.shape[1]
        reason = checks.dimension(found.shape[1], self._limits)
        if reason is None and found.shape[1] != dimension:
            reason = f"has dimension {found.shape[1]}, those before it {dimension}"
        if reason is not None:
            self._problems.append(Problem(f"/embeddings/{self._count}", reason, self._count))
            return
        vectors = np.ascontiguousarray(found, np.float32)
        self._problems += checks.finite(vectors, self._count)
        self._vectors.append(vectors)

    def _stacked(self, found: Sequence[NDArray[np.float32] | str]) -> NDArray[np.float32] | None:
        """Join vectors of one dimension; otherwise return None and keep what is wrong."""
        dimension: int | None = None
        count = len(self._problems)
        for index, row in enumerate(found, start=self._count):
            reason = row if isinstance(row, str) else checks.dimension(len(row), self._limits)
            # The type is that of all, so the first and the last tell whether it is right.
            is_doubted = index in (self._count, self._count + len(found) - 1)
            if isinstance(row, np.ndarray) and reason is None and is_doubted:
                reason = self._doubt(bytes_of(row))
            if reason is None:
                dimension = dimension or len(row)
                if len(row) != dimension:
                    reason = f"has dimension {len(row)}, those before it {dimension}"
            if reason is not None:
                self._problems.append(Problem(f"/embeddings/{index}", reason, index))
        return np.stack(list(found)) if len(self._problems) == count else None

    def _doubt(self, data: bytes | None) -> str | None:
        """Return why the bytes of a vector seem not to be float32; None if they do, or are none."""
        if data is None:
            return None
        if self._dtype not in (None, dtypes.FLOAT32):
            return f"is of bytes, which are float32 in columns, not {self._dtype}: {_ADVICE}"
        return dtypes.doubt(data, self._dtype, _ADVICE)

    def _add_ids(self, column: Column) -> None:
        values = column.values()
        for index, value in enumerate(values, start=self._count):
            if (reason := wrong_id(value, column.inexact_from)) is not None:
                self._problems.append(Problem(f"/ids/{index}", reason, index))
        self._ids += map(id_text, values)

    def _add_times(self, column: Column) -> None:
        for index, value in enumerate(column.seconds(Times()), start=self._count):
            found: float | str | None = value
            if not isinstance(value, str):
                found = None if np.isnan(value) else checks.timestamp(float(value), self._now)
            if isinstance(found, str):
                place = f"/{self._choice.time}/{index}"
                self._problems.append(Problem(place, found, index))
                found = None
            self._times.append(found)

    def _add_metadata(self, chunk: Chunk) -> None:
        choice = self._choice
        names = [name for name in (choice.text, *choice.others) if name is not None]
        columns = {
            TEXT if name == choice.text else name: chunk.columns[name].values() for name in names
        }
        for index in range(len(chunk)):
            row = {name: column[index] for name, column in columns.items()}
            row = {name: value for name, value in row.items() if value is not None}
            inner = row.get(METADATA)
            if isinstance(inner, Mapping):
                del row[METADATA]
                row = {**inner, **row}
            encoded = msgspec.json.encode(row) if row else None
            reason = None if encoded is None else checks.metadata(encoded, self._limits)
            if reason is not None:
                at = self._count + index
                self._problems.append(Problem(f"/metadata/{at}", reason, at))
                encoded = None
            self._metadata.append(encoded)


def _stream(body: bytes, limits: IngestSettings) -> Table:
    """Read an Arrow stream, once it is known that it is not compressed."""
    import pyarrow as pa

    from ingest.files.arrow import Batches

    _has_library.set()
    if body[:6] == b"ARROW1":
        raise ValueError("is a file of Arrow, but the content type is that of a stream")
    source = pa.BufferReader(body)
    for message in pa.ipc.MessageReader.open_stream(source):
        if messages.is_compressed(memoryview(message.metadata)):
            raise UnsupportedMediaType(
                "the buffers of the Arrow stream are compressed; write them without compression,"
                " and use Content-Encoding"
            )
    if rest := len(body) - source.tell():
        raise PayloadError(
            f"the body has {rest} bytes beyond the end of its stream; send each stream by itself"
        )
    with pa.ipc.open_stream(body) as reader:
        check_columns(reader.schema, limits)
        return Batches(reader.schema, checked(reader, limits))


def check_columns(schema: Any, limits: IngestSettings) -> None:
    """Refuse too many columns: each takes its time, even without rows."""
    kinds = [kind for field in schema for kind in _within(field.type)]
    others = len(kinds) - sum(map(_is_number, kinds))
    if len(kinds) > limits.max_dimension + _OTHER_COLUMNS or others > _OTHER_COLUMNS:
        raise BodyTooLarge(
            f"the body has {len(kinds)} columns; allowed are at most {limits.max_dimension} of"
            f" components (ingest.max_dimension) and {_OTHER_COLUMNS} others. Each field of an"
            " object counts as one"
        )


def _within(kind: Any) -> Iterator[Any]:
    """Yield the types of a column and of the fields of objects in it. A list is what it holds."""
    import pyarrow as pa

    kind = getattr(kind, "storage_type", kind)
    inner = getattr(kind, "item_type", getattr(kind, "value_type", None))
    if inner is not None:
        yield from _within(inner)
        return
    yield kind
    if isinstance(kind, pa.StructType):
        for field in kind:
            yield from _within(field.type)


def checked(batches: Iterable[Any], limits: IngestSettings) -> list[Any]:
    """Return record batches whose values take not much more memory than they do."""
    found, count, taken = [], 0, 0
    for batch in batches:
        count += batch.num_rows
        checks.count(count or 1, limits)
        batch.validate()
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            # Also of earlier batches: a dictionary counts for all of them.
            taken += _taken_bytes(name, column, limits)
            if taken > limits.max_body_bytes:
                raise _too_much(name, limits)
        # Arrow trusts the sender: damaged offsets would be read from anywhere in memory. This reads
        # each value, so their size is known before.
        batch.validate(full=True)
        found.append(batch)
    return found


def _taken_bytes(name: str, column: Any, limits: IngestSettings) -> int:
    """Return what a column counts, beside numbers and vectors that are not copied one by one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = _stored(column)
    kind = column.type
    if _is_number(kind):
        return 0
    if _is_vectors(name, kind) and not column.null_count and not column.values.null_count:
        is_fixed = pa.types.is_fixed_size_list(kind)
        if is_fixed or len(pc.list_value_length(column).unique()) <= 1:
            return 0
    return _value_bytes(name, column, limits)


def _value_bytes(name: str, column: Any, limits: IngestSettings) -> int:
    """Return what values count, with all within them, if each row has its own.

    Raises
    ------
    PayloadError
        If the type is one whose rows share even more, or there are too many values.
    """
    import pyarrow as pa

    column = _stored(column)
    kind, types = column.type, pa.types
    if str(kind).partition("<")[0] in _SHARING:
        raise PayloadError(f"column {name!r:.60} is of type {kind!s:.60}, which is not supported")
    # A null, or an object without fields, takes no byte of the body.
    size = len(column) * _bytes_of_one(kind)
    if size > limits.max_body_bytes:
        raise _too_much(name, limits)
    if types.is_struct(kind):
        fields = zip(kind, column.flatten(), strict=True)
        within = [(f"{name}.{field.name}", each) for field, each in fields]
    elif types.is_map(kind):
        within = [(name, column.keys), (name, column.items)]
    elif types.is_nested(kind):
        within = [(name, column.flatten())]
    else:
        return size + _bytes_apart(name, column, limits)
    return size + sum(_value_bytes(inner, each, limits) for inner, each in within)


def _bytes_of_one(kind: Any) -> int:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return _OBJECT_BYTES
    if pa.types.is_nested(kind):
        return _LIST_BYTES
    return _NUMBER_BYTES if _is_number(kind) else _VALUE_BYTES


def _stored(column: Any) -> Any:
    import pyarrow as pa

    return column.storage if isinstance(column, pa.ExtensionArray) else column


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _is_vectors(name: str, kind: Any) -> bool:
    import pyarrow as pa

    kind, types = getattr(kind, "storage_type", kind), pa.types
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return is_list and _is_number(kind.value_type) and name not in _SINGLE


def _too_much(name: str, limits: IngestSettings) -> BodyTooLarge:
    return BodyTooLarge(
        f"column {name!r:.60}, each row with its value, exceeds {limits.max_body_bytes} bytes"
        " (ingest.max_body_bytes), with those before it"
    )


def _bytes_apart(name: str, column: Any, limits: IngestSettings) -> int:
    """Return what texts of views and values of dictionaries take, which rows may share."""
    import pyarrow as pa
    import pyarrow.compute as pc

    types = pa.types
    if not len(column):
        return 0
    if types.is_string_view(column.type) or types.is_binary_view(column.type):
        # Of each row, the length and where its bytes are.
        views = np.frombuffer(column.buffers()[1], np.int32).reshape(-1, 4)
        lengths = views[column.offset : column.offset + len(column), 0]
        return int(lengths[column.is_valid().to_numpy(zero_copy_only=False)].sum(dtype=np.int64))
    if not types.is_dictionary(column.type):
        return 0
    values = column.dictionary
    is_binary = types.is_binary(values.type) or types.is_large_binary(values.type)
    if is_binary or types.is_string(values.type) or types.is_large_string(values.type):
        return pc.sum(pc.binary_length(values).take(column.indices)).as_py() or 0
    within = _value_bytes(name, values, limits) if types.is_nested(values.type) else 0
    return (int(values.nbytes) + within) * len(column)


def described(what: str) -> dict[str, Any]:
    """Describe a body of columns, as OpenAPI has it."""
    return {
        "type": "string",
        "format": "binary",
        "description": (
            f"{what} with a column of vectors (`embedding`, another usual name, or the only one"
            " that holds lists of numbers), and columns `id`, `timestamp`, `model_name`, `text`."
            " All others become metadata. Vectors in bytes or base64 are float32."
        ),
    }


def _place(body: bytes) -> Place:
    """Have short bodies of few values read in the event loop."""
    if len(body) > _SHORT_BYTES or not _has_library.is_set():
        return Place.THREAD
    import pyarrow as pa

    count = 0
    try:
        for message in pa.ipc.MessageReader.open_stream(pa.BufferReader(body)):
            count += messages.values(memoryview(message.metadata))
            if count > _FEW_VALUES:
                return Place.THREAD
        schema = pa.ipc.open_stream(body).schema
    except _DAMAGED:
        return Place.THREAD
    is_light = all(_is_vectors(field.name, field.type) or _is_flat(field.type) for field in schema)
    return Place.LOOP if is_light else Place.THREAD


def _is_flat(kind: Any) -> bool:
    """Return whether values hold no lists, which may be of any length."""
    import pyarrow as pa

    kind = getattr(kind, "storage_type", kind)
    if isinstance(kind, pa.StructType):
        return all(_is_flat(field.type) for field in kind)
    return not pa.types.is_nested(kind)


STREAM = Format(
    "application/vnd.apache.arrow.stream",
    partial(read, opener=_stream),
    described("A stream of Arrow's IPC format, its buffers not compressed,"),
    place=_place,
)
