"""Files of vectors: npy, npz, parquet, csv and jsonl, a block of rows at a time."""

from __future__ import annotations

import csv
import itertools
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.lib.format import open_memmap
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from ingest.runtime.errors import PayloadError

T = TypeVar("T")

_BLOCK = 1_000
_EMBEDDING = "embedding"
_ID = "id"
_TIMESTAMP = "timestamp"
_BESIDE = (_ID, _TIMESTAMP)
"""Columns of numbers that are no components."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a file: vectors, shape (n, d), and what stands beside each.

    ``ids`` and ``metadata`` are empty where the file has none.
    """

    vectors: NDArray[np.float32]
    ids: Sequence[str | None] = ()
    metadata: Sequence[Mapping[str, Any]] = ()

    def __len__(self) -> int:
        return len(self.vectors)


def read(path: Path) -> Iterator[Rows]:
    """Read a file by its suffix.

    Yields
    ------
    Rows
        Of one dimension throughout, their vectors finite.

    Raises
    ------
    PayloadError
        Naming the file, the row or column at fault, and what is allowed.
    """
    if path.suffix.lower() not in _READERS:
        raise PayloadError(f"{path}: unknown suffix; allowed are {', '.join(_READERS)}")
    reader, unit = _READERS[path.suffix.lower()]
    dimension: int | None = None
    try:
        for block in reader(path):
            vectors = _checked(block, unit, dimension)
            dimension = vectors.shape[1]
            yield Rows(vectors, block.ids, block.metadata)
    except OSError as error:
        raise PayloadError(f"{path} cannot be read: {error.strerror or error}") from error
    except _UNREADABLE as error:
        raise PayloadError(f"{path}: {error}") from error
    if dimension is None:
        raise PayloadError(f"{path} holds no vectors")


_UNREADABLE = (
    ValueError,
    EOFError,
    NotImplementedError,
    OverflowError,
    TokenError,
    csv.Error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What the libraries that read files raise over one that is damaged."""


class _Block(NamedTuple):
    """Rows as a file has them, and the number of each row or line."""

    vectors: NDArray[Any] | Sequence[Sequence[float]]
    numbers: Sequence[int]
    ids: Sequence[str | None] = ()
    metadata: Sequence[Mapping[str, Any]] = ()


def _checked(block: _Block, unit: str, dimension: int | None) -> NDArray[np.float32]:
    """Make the vectors of a block an array, or say which row does not fit."""
    dimension = dimension or len(block.vectors[0])
    for number, vector in zip(block.numbers, block.vectors, strict=True):
        if len(vector) != dimension or dimension == 0:
            allowed = f"those before it {dimension}" if dimension else "at least one is needed"
            raise ValueError(f"{unit} {number} has {len(vector)} components, {allowed}")
    with np.errstate(over="ignore", invalid="ignore"):
        vectors = np.ascontiguousarray(block.vectors, np.float32)
    finite = np.isfinite(vectors)
    if not finite.all():
        row = int(finite.all(axis=1).argmin())
        raise ValueError(
            f"{unit} {block.numbers[row]}: component {finite[row].argmin()} is NaN, infinite or"
            " too large for float32"
        )
    return vectors


def _read_npy(path: Path) -> Iterator[_Block]:
    array = open_memmap(path, mode="r")
    _require_matrix(array)
    yield from _blocks_of(array, {})


def _read_npz(path: Path) -> Iterator[_Block]:
    with path.open("rb") as opened, NpzFile(opened, allow_pickle=False) as file:
        arrays = {name: np.asarray(file[name]) for name in file.files}
    matrices = [name for name, array in arrays.items() if array.ndim == 2]
    if _EMBEDDING not in arrays and len(matrices) != 1:
        raise ValueError(f"needs an array {_EMBEDDING!r} of shape (n, d), or only one such array")
    array = arrays.pop(_EMBEDDING if _EMBEDDING in arrays else matrices[0])
    _require_matrix(array)
    beside = {name: a for name, a in arrays.items() if a.shape == array.shape[:1]}
    for name, column in beside.items():
        if column.dtype.kind not in "biufU":
            raise ValueError(
                f"array {name!r} beside the vectors holds {column.dtype}; allowed are numbers,"
                " booleans and texts"
            )
    yield from _blocks_of(array, {name: column.tolist() for name, column in beside.items()})


def _require_matrix(array: NDArray[Any]) -> None:
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise ValueError(f"holds {array.dtype} of shape {array.shape}; allowed are numbers (n, d)")


def _blocks_of(array: NDArray[Any], columns: Mapping[str, list[Any]]) -> Iterator[_Block]:
    for at in range(0, len(array), _BLOCK):
        part = slice(at, at + _BLOCK)
        vectors = np.asarray(array[part])
        beside = _beside({name: column[part] for name, column in columns.items()})
        yield _Block(vectors, range(at, at + len(vectors)), *beside)


def _read_parquet(path: Path) -> Iterator[_Block]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(
            "needs pyarrow: pip install 'embedding-drift-exporter[parquet]'"
        ) from error

    def is_vectors(kind: pa.DataType) -> bool:
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        if not (is_list or pa.types.is_fixed_size_list(kind)):
            return False
        return bool(pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))

    with parquet.ParquetFile(path) as file:
        lists = [field.name for field in file.schema_arrow if is_vectors(field.type)]
        if _EMBEDDING not in lists and len(lists) != 1:
            raise ValueError(
                f"needs a column {_EMBEDDING!r} of lists of numbers, or only one such column"
            )
        name = _EMBEDDING if _EMBEDDING in lists else lists[0]
        first = 0
        for batch in file.iter_batches(_BLOCK):
            vectors = batch[name].to_numpy(zero_copy_only=False).tolist()
            numbers = range(first, first + len(vectors))
            for number, vector in zip(numbers, vectors, strict=True):
                if vector is None:
                    raise ValueError(f"row {number} has no vector")
            others = [other for other in batch.schema.names if other != name]
            columns = {other: batch[other].to_pylist() for other in others}
            yield _Block(vectors, numbers, *_beside(columns))
            first += len(vectors)


def _read_csv(path: Path) -> Iterator[_Block]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file, strict=True)
        names = _header(next(lines, []))
        numbered = ((lines.line_num, line) for line in lines if line)
        for block in _blocks(numbered):
            for number, line in block:
                if len(line) != len(names):
                    raise ValueError(
                        f"line {number} has {len(line)} columns, the header {len(names)}"
                    )
            numbers = [number for number, _ in block]
            cells = zip(*(line for _, line in block), strict=True)
            columns = dict(zip(names, map(list, cells), strict=True))
            vectors = _csv_vectors(columns, numbers)
            yield _Block(vectors, numbers, *_beside(_csv_values(columns)))


def _header(names: list[str]) -> list[str]:
    # Vectors written without a header, or with a column of row numbers, must not lose a row or
    # gain a component unseen. Columns numbered 0, 1, 2... are a header all the same.
    components = [name for name in names if name not in _BESIDE]
    is_numbered = components == list(map(str, range(len(components))))
    for number, name in enumerate(names):
        if not name:
            raise ValueError(f"line 1: column {number} has no name")
        if _is_number(name) and not is_numbered:
            raise ValueError(f"line 1 must name the columns; column {number} is {name!r}")
        if name in names[:number]:
            raise ValueError(f"line 1 names column {name!r} twice")
    return names


def _csv_vectors(columns: dict[str, list[str]], numbers: Sequence[int]) -> list[list[float]]:
    """Take the vectors out of the columns."""
    if _EMBEDDING in columns:
        texts = columns.pop(_EMBEDDING)
        return [_json_list(text, n) for text, n in zip(texts, numbers, strict=True)]
    names = [name for name in columns if name not in _BESIDE]
    if not names:
        raise ValueError(f"has neither columns of numbers nor a column {_EMBEDDING!r}")
    rows = zip(*(columns.pop(name) for name in names), strict=True)
    return [_numbers(row, names, n) for row, n in zip(rows, numbers, strict=True)]


def _csv_values(columns: Mapping[str, list[str]]) -> dict[str, list[Any]]:
    """Read what stands beside the vectors: texts, but for the time, which is a number."""
    # A text file has no null: nothing between two commas is nothing.
    values: dict[str, list[Any]] = {
        name: [cell or None for cell in column] for name, column in columns.items()
    }
    if _TIMESTAMP in values:
        values[_TIMESTAMP] = [
            float(cell) if cell is not None and _is_number(cell) else cell
            for cell in values[_TIMESTAMP]
        ]
    return values


def _json_list(text: str, line: int) -> list[float]:
    try:
        return msgspec.json.decode(text, type=list[float])
    except msgspec.DecodeError as error:
        raise ValueError(f"line {line}: {_EMBEDDING} is not a JSON list of numbers") from error


def _numbers(cells: Sequence[str], names: Sequence[str], line: int) -> list[float]:
    try:
        return list(map(float, cells))
    except ValueError as error:
        at = [_is_number(cell) for cell in cells].index(False)
        raise ValueError(
            f"line {line}: column {names[at]!r} is {cells[at]!r:.40}; allowed are numbers, or one"
            f" column {_EMBEDDING!r} of JSON lists"
        ) from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class _Line(msgspec.Struct):
    """A line of jsonl; its other keys are metadata, too."""

    embedding: list[float]
    id: str | int | None = None
    metadata: dict[str, Any] | None = None


_LINE = msgspec.json.Decoder(_Line)
_KEYS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _read_jsonl(path: Path) -> Iterator[_Block]:
    with path.open("rb") as file:
        numbered = ((n, text) for n, text in enumerate(file, start=1) if text.strip())
        for block in _blocks(numbered):
            lines = [_json_line(text, number) for number, text in block]
            ids, metadata = zip(*((line.id, line.metadata or {}) for line in lines), strict=True)
            yield _Block(
                [line.embedding for line in lines],
                [number for number, _ in block],
                _texts(ids),
                metadata if any(metadata) else (),
            )


def _json_line(text: bytes, number: int) -> _Line:
    try:
        line = _LINE.decode(text)
        others = {
            key: msgspec.json.decode(value)
            for key, value in _KEYS.decode(text).items()
            if key not in _Line.__struct_fields__
        }
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"line {number}: {error}") from error
    line.metadata = others | (line.metadata or {})
    return line


_READERS: dict[str, tuple[Callable[[Path], Iterator[_Block]], str]] = {
    ".npy": (_read_npy, "row"),
    ".npz": (_read_npz, "row"),
    ".parquet": (_read_parquet, "row"),
    ".csv": (_read_csv, "line"),
    ".jsonl": (_read_jsonl, "line"),
}
"""By suffix: the reader, and what it numbers; rows count from 0, lines from 1."""


def _blocks(rows: Iterable[T]) -> Iterator[list[T]]:
    rows = iter(rows)
    while block := list(itertools.islice(rows, _BLOCK)):
        yield block


def _beside(
    columns: Mapping[str, list[Any]],
) -> tuple[Sequence[str | None], Sequence[Mapping[str, Any]]]:
    """Give each column beside the vectors its place: the ids, and metadata without nulls."""
    names = [name for name in columns if name != _ID]
    metadata = [
        {name: value for name, value in zip(names, values, strict=True) if value is not None}
        for values in zip(*(columns[name] for name in names), strict=True)
    ]
    return _texts(columns.get(_ID, ())), metadata if any(metadata) else ()


def _texts(ids: Sequence[object]) -> Sequence[str | None]:
    texts = [None if id_ is None else str(id_) for id_ in ids]
    return texts if any(text is not None for text in texts) else ()
