"""Files of vectors: npy, npz, parquet, csv and jsonl, a block of rows at a time."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from ingest.runtime.errors import PayloadError

T = TypeVar("T")

_BLOCK = 1_000
_EMBEDDING = "embedding"
_ID = "id"


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

    Raises
    ------
    PayloadError
        Naming the file, the row or column at fault, and what is allowed.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise PayloadError(f"{path}: unknown suffix; allowed are {', '.join(_READERS)}")
    try:
        yield from reader(path)
    except OSError as error:
        raise PayloadError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise PayloadError(f"{path}: {error}") from error


def _read_npy(path: Path) -> Iterator[Rows]:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise ValueError(f"holds {array.dtype} of shape {array.shape}; allowed are numbers (n, d)")
    for at in range(0, len(array), _BLOCK):
        yield Rows(np.ascontiguousarray(array[at : at + _BLOCK], np.float32))


def _read_npz(path: Path) -> Iterator[Rows]:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    flat = [name for name, array in arrays.items() if array.ndim == 2]
    if _EMBEDDING not in arrays and len(flat) != 1:
        raise ValueError(f"needs an array {_EMBEDDING!r} of shape (n, d), or only one such array")
    vectors = arrays.pop(_EMBEDDING if _EMBEDDING in arrays else flat[0])
    beside = {
        name: array.tolist() for name, array in arrays.items() if array.shape == vectors.shape[:1]
    }
    for at in range(0, len(vectors), _BLOCK):
        block = slice(at, at + _BLOCK)
        columns = {name: column[block] for name, column in beside.items()}
        yield _rows(np.ascontiguousarray(vectors[block], np.float32), columns)


def _read_parquet(path: Path) -> Iterator[Rows]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(
            "needs pyarrow: pip install 'embedding-drift-exporter[parquet]'"
        ) from error
    for batch in parquet.ParquetFile(path).iter_batches(_BLOCK):
        columns = {name: batch[name].to_pylist() for name in batch.schema.names}
        lists = [name for name, values in columns.items() if isinstance(values[0], list)]
        if _EMBEDDING not in columns and len(lists) != 1:
            raise ValueError(f"needs a column {_EMBEDDING!r} of lists, or only one such column")
        vectors = columns.pop(_EMBEDDING if _EMBEDDING in columns else lists[0])
        yield _rows(_stack(vectors, "row"), columns)


def _read_csv(path: Path) -> Iterator[Rows]:
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.DictReader(file, strict=True)
        names = list(lines.fieldnames or ())
        numbers = [name for name in names if name != _ID]
        first = 2  # the line after the header
        for block in _blocks(lines):
            columns = {name: [line[name] for line in block] for name in names}
            if _EMBEDDING in columns:
                texts = columns.pop(_EMBEDDING)
                vectors = [_json_list(t, first + n) for n, t in enumerate(texts)]
            else:
                vectors = [_numbers(line, numbers, first + n) for n, line in enumerate(block)]
                columns = {name: columns[name] for name in columns if name == _ID}
            yield _rows(_stack(vectors, "line", first), columns)
            first += len(block)


def _read_jsonl(path: Path) -> Iterator[Rows]:
    with path.open("rb") as file:
        first = 1
        for block in _blocks(file):
            objects = [_json_object(line, first + n) for n, line in enumerate(block)]
            vectors = _stack([o.pop(_EMBEDDING) for o in objects], "line", first)
            ids = [None if (id_ := o.pop(_ID, None)) is None else str(id_) for o in objects]
            metadata = [o.pop("metadata", None) or o for o in objects]
            yield Rows(vectors, ids if any(ids) else (), metadata if any(metadata) else ())
            first += len(block)


_READERS: dict[str, Callable[[Path], Iterator[Rows]]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
}


def _blocks(rows: Iterable[T]) -> Iterator[list[T]]:
    rows = iter(rows)
    while block := list(itertools.islice(rows, _BLOCK)):
        yield block


def _rows(vectors: NDArray[np.float32], columns: dict[str, list[Any]]) -> Rows:
    """Give each column of the file beside the vectors its place."""
    ids = [str(value) for value in columns.pop(_ID, ())]
    names = list(columns)
    metadata = [
        dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    return Rows(vectors, ids, metadata)


def _stack(vectors: Sequence[Sequence[float]], unit: str, first: int = 0) -> NDArray[np.float32]:
    dimension = len(vectors[0])
    for number, vector in enumerate(vectors, start=first):
        if len(vector) != dimension:
            raise ValueError(
                f"{unit} {number} has {len(vector)} components, those before {dimension}"
            )
    try:
        return np.array(vectors, np.float32)
    except (ValueError, TypeError) as error:
        raise ValueError(f"from {unit} {first} on, a component is not a number") from error


def _json_list(text: str, line: int) -> list[float]:
    try:
        return msgspec.json.decode(text, type=list[float])
    except msgspec.DecodeError as error:
        raise ValueError(f"line {line}: {_EMBEDDING} is not a JSON list of numbers") from error


def _json_object(text: bytes, line: int) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ValueError(f"line {line} is not a JSON object: {error}") from error
    if not isinstance(found.get(_EMBEDDING), list):
        raise ValueError(f"line {line} has no list {_EMBEDDING!r}")
    return found


def _numbers(line: Mapping[str, str], names: Sequence[str], number: int) -> list[float]:
    try:
        return [float(line[name]) for name in names]
    except (ValueError, TypeError) as error:
        raise ValueError(f"line {number}: a column is not a number") from error
