"""What a file looks like whatever its format: columns, in chunks of rows.

A format has a function that opens a file as a `Table`. A table gives chunks; a chunk has columns
and the places of its rows.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from enum import Enum
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ingest.files import vectors
from ingest.runtime import timestamps
from ingest.runtime.timestamps import Unit

T = TypeVar("T")

CHUNK = 1_000
"""Rows that are read at a time."""

INEXACT = 2.0**53
"""From here on, Python's floats do not have each whole number."""

_EXACT = ("M8[s]", "M8[ms]", "M8[us]")
"""Types of times whose seconds float64 holds to their last digit."""

_COMMA = re.compile(r"^(\s*[+-]?\d+),(\d+(?:[eE][+-]?\d+)?\s*)$")
"""A number with a decimal comma."""

Vectors = NDArray[np.float32] | Sequence[NDArray[np.float32] | str]
"""Vectors of shape (n, d), or of each row: its vector, or what is wrong with it."""


class Kind(Enum):
    """What a column holds, as far as it matters for finding the vectors."""

    VECTORS = "vectors"
    NUMBERS = "numbers"
    OTHER = "other values"
    FOLDER = "the name of a folder, one value for the whole file"


@dataclass(frozen=True, slots=True)
class Times:
    """How to read times.

    Attributes
    ----------
    unit : str
        What numbers count.
    zone : tzinfo or None
        Zone of times that name none.
    """

    unit: Unit = "s"
    zone: tzinfo | None = None

    def read(self, value: Any) -> float | str:
        """Return seconds since the epoch, NaN for a missing time, or what is wrong with it."""
        if value is None or value == "" or value != value:
            return np.nan
        try:
            return timestamps.seconds(value, self.unit, self.zone)
        except ValueError as error:
            return str(error)


class Column(Protocol):
    """The values of one column in a chunk.

    Attributes
    ----------
    inexact_from : float
        From here on, floats of the column's type do not have each whole number.
    """

    @property
    def inexact_from(self) -> float:
        """The first whole number that stands for another one, too."""

    def vectors(self) -> Vectors:
        """Read the values as vectors."""

    def seconds(self, times: Times) -> NDArray[np.float64] | Sequence[float | str]:
        """Read the values as times: seconds since the epoch, NaN where missing; or the reason."""

    def numbers(self) -> NDArray[np.floating[Any]] | Sequence[float | str]:
        """Read the values as numbers; or what is wrong with each."""

    def values(self) -> list[Any]:
        """Return the values as Python objects; None where missing."""


@dataclass(frozen=True, slots=True)
class Objects:
    """A column of Python objects."""

    items: Sequence[Any]
    inexact_from: ClassVar[float] = INEXACT

    def vectors(self) -> Vectors:
        """Read each value as a vector."""
        return list(map(vectors.read, self.items))

    def seconds(self, times: Times) -> Sequence[float | str]:
        """Read each value as a time."""
        return list(map(times.read, self.items))

    def numbers(self) -> NDArray[np.floating[Any]] | Sequence[float | str]:
        """Read each value as a number."""
        return list(map(number, self.items))

    def values(self) -> list[Any]:
        """Return the values."""
        return list(self.items)


@dataclass(frozen=True, slots=True)
class Filled:
    """A column whose missing values are one text."""

    column: Column
    text: str

    @property
    def inexact_from(self) -> float:
        """Return the limit of the column."""
        return self.column.inexact_from

    def vectors(self) -> Vectors:
        """Read the values as vectors. A missing one stays missing: a text is no vector."""
        return self.column.vectors()

    def seconds(self, times: Times) -> Sequence[float | str]:
        """Read each value as a time."""
        instead = times.read(self.text)
        return [instead if each != each else each for each in self.column.seconds(times)]

    def numbers(self) -> NDArray[np.floating[Any]] | Sequence[float | str]:
        """Read the values as numbers. A missing one stays missing: a text is no number."""
        return self.column.numbers()

    def values(self) -> list[Any]:
        """Return the values."""
        values = self.column.values()
        return [self.text if each is None or each != each else each for each in values]


@dataclass(frozen=True, slots=True)
class Array:
    """A column that is an array of NumPy: of vectors if it has two dimensions."""

    items: NDArray[Any]

    @property
    def inexact_from(self) -> float:
        """Return the limit of the array's type."""
        return inexact_from(self.items.dtype) if self.items.dtype.kind == "f" else INEXACT

    def vectors(self) -> Vectors:
        """Read each value as a vector."""
        if self.items.ndim != 2:
            return Objects(self.items.tolist()).vectors()
        with np.errstate(over="ignore", invalid="ignore"):
            return self.items.astype(np.float32, copy=False)

    def seconds(self, times: Times) -> NDArray[np.float64] | Sequence[float | str]:
        """Read each value as a time."""
        if self.items.dtype.kind == "M":
            return naive_seconds(self.items, times)
        return Objects(self.values()).seconds(times)

    def numbers(self) -> NDArray[np.floating[Any]] | Sequence[float | str]:
        """Read each value as a number."""
        return self.items.astype(np.float64)

    def values(self) -> list[Any]:
        """Return the values."""
        if self.items.dtype.kind == "M":
            return list(self.items.astype("datetime64[us]").tolist())
        if self.items.dtype.kind == "S":
            return [item.decode("utf-8", "replace") for item in self.items.tolist()]
        if self.items.dtype.kind == "O":  # texts of HDF5
            return [
                item.decode("utf-8", "replace") if isinstance(item, bytes) else item
                for item in self.items.tolist()
            ]
        return list(self.items.tolist())


def inexact_from(dtype: DTypeLike) -> float:
    """Return the number from which on a type of floats does not have each whole number."""
    return float(2.0 ** (np.finfo(dtype).nmant + 1))


def number(value: Any) -> float | str:
    """Read a number, which in texts may have a decimal comma, or return what is wrong with it."""
    if type(value) is float:
        return value
    if isinstance(value, str):
        try:
            return float(_COMMA.sub(r"\1.\2", value))
        except ValueError:
            return f"is {value!r:.40}; components must be numbers"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return f"is {'null' if value is None else repr(value)[:40]}; components must be numbers"


def naive_seconds(
    moments: NDArray[np.datetime64], times: Times
) -> NDArray[np.float64] | Sequence[float | str]:
    """Convert typed timestamps without a zone; NaT is NaN.

    They are taken for UTC, as the libraries that write them do, unless a zone is given.

    Parameters
    ----------
    moments : ndarray of datetime64, shape (n,)
        Read to a microsecond.
    times : Times
    """
    # Years and days are counted in seconds: as microseconds, those far away would wrap around.
    kind = np.promote_types(moments.dtype, "M8[s]")
    moments = moments.astype(kind if kind in _EXACT else "M8[us]")
    if times.zone is None:
        seconds: NDArray[np.float64] = (moments - np.datetime64(0, "s")) / np.timedelta64(1, "s")
        if not ((seconds < 0) | (seconds >= timestamps.END)).any():
            return seconds
    # As texts, so that the reasons are the same.
    texts = np.datetime_as_string(moments).tolist()
    in_zone = Times(zone=times.zone or UTC)
    return [
        np.nan if absent else in_zone.read(text)
        for text, absent in zip(texts, np.isnat(moments).tolist(), strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of a file.

    Attributes
    ----------
    columns : mapping of str to Column
    places : sequence of int
        Place of each row among all rows of the file, good or bad, from 0.
    numbers : sequence of int
        What a person finds each row by: its place, or its line, which may hold several rows.
    faults : sequence of (int, int, str)
        Rows that could not be read at all: place, number and reason. They are in no column.
    """

    columns: Mapping[str, Column]
    places: Sequence[int]
    numbers: Sequence[int]
    faults: Sequence[tuple[int, int, str]] = ()

    def __len__(self) -> int:
        return len(self.places)


class Table(Protocol):
    """An open file.

    Attributes
    ----------
    unit : {"row", "line"}
        What the numbers of rows count: rows from 0, or lines of text from 1.
    kinds : mapping of str to Kind
        The columns.
    objects : mapping of str to str
        The column of objects that a column is a field of, for each that is one. Dots in a name do
        not say so.
    parts : int
        Parts of the file that can be read by themselves. Most formats have one.
    """

    unit: Literal["row", "line"]

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """The columns, in order."""

    @property
    def objects(self) -> Mapping[str, str]:
        """The object around each field of one."""

    @property
    def parts(self) -> int:
        """How many there are."""

    def chunks(self, part: int, names: Sequence[str]) -> Iterator[Chunk]:
        """Read a part, chunk by chunk.

        Parameters
        ----------
        part : int
        names : sequence of str
            Columns to read; the first holds vectors. A column may be missing from a chunk.
        """


@dataclass
class Records:
    """A table of a format that has one record after the other, such as JSON lines.

    Its columns are those of the first chunk.

    Parameters
    ----------
    unit : {"row", "line"}
    records : iterable of (int, dict or str)
        The number of each record, and its values by name, or what is wrong with it.
    kind : callable, optional
        Tells the kind of a column by its first value that is not None.
    """

    unit: Literal["row", "line"]
    records: Iterable[tuple[int, dict[str, Any] | str]]
    kind: Callable[[Any], Kind] | None = None
    parts: int = 1

    def __post_init__(self) -> None:
        records = iter(self.records)
        # Until there is one good row: the columns are known from it.
        head: list[tuple[int, dict[str, Any] | str]] = []
        has_good = False
        try:
            for record in records:
                head.append(record)
                has_good = has_good or isinstance(record[1], dict)
                if len(head) >= CHUNK and has_good:
                    break
        except Exception as error:
            # The rows before it come first.
            records = _failing(error)
        self._rest = itertools.chain(head, records)
        samples: dict[str, Any] = {}
        for _, each in head:
            if isinstance(each, dict):
                _gather(samples, each)
        kind = self.kind or kind_of
        self.kinds: dict[str, Kind] = {}
        self.objects: dict[str, str] = {}
        for name, outer, value in flat(samples):
            if outer is None:
                self.kinds[name] = kind(value)
            elif name not in samples:
                self.kinds[name] = kind(value)
                self.objects[name] = outer

    def chunks(self, part: int, names: Sequence[str]) -> Iterator[Chunk]:
        """Read the rows, chunk by chunk."""
        first = 0
        for some in _cut(self._rest):
            good: list[dict[str, Any]] = []
            places: list[int] = []
            numbers: list[int] = []
            faults: list[tuple[int, int, str]] = []
            for place, (number, each) in enumerate(some, first):
                if isinstance(each, str):
                    faults.append((place, number, each))
                    continue
                good.append(each)
                places.append(place)
                numbers.append(number)
            first += len(some)
            # A name that comes up later is a column, too.
            later = {name: None for each in good for name in each if name not in self.kinds}
            columns = {
                name: Objects([self._at(each, name) for each in good]) for name in (*names, *later)
            }
            yield Chunk(columns, places, numbers, faults)

    def _at(self, record: Mapping[str, Any], name: str) -> Any:
        """Return the value of a column, which may be a field of an object."""
        outer = self.objects.get(name)
        if name in record or outer is None:
            return record.get(name)
        within = self._at(record, outer)
        return within.get(name[len(outer) + 1 :]) if isinstance(within, Mapping) else None


def _failing(error: Exception) -> Iterator[Any]:
    yield from ()
    raise error


def _cut(records: Iterator[T]) -> Iterator[list[T]]:
    """Cut records into chunks. If an error ends them, what came before it is a chunk."""
    failure: Exception | None = None
    while failure is None:
        some: list[T] = []
        try:
            some.extend(itertools.islice(records, CHUNK))
        except Exception as error:
            failure = error
        if some:
            yield some
        elif failure is None:
            return
    raise failure


def _gather(samples: dict[str, Any], record: Mapping[str, Any]) -> None:
    """Add the values of a record that have no sample yet; those of objects in it, too."""
    for name, value in record.items():
        held = samples.get(name)
        if isinstance(value, Mapping) and isinstance(held, dict | None):
            samples[name] = held or {}
            _gather(samples[name], value)
        elif held is None:
            samples[name] = value


def flat(
    values: Mapping[str, Any], outer: str | None = None
) -> Iterator[tuple[str, str | None, Any]]:
    """Yield names, the objects around them, and values; a field of one is `outer.inner`."""
    for inner, value in values.items():
        name = inner if outer is None else f"{outer}.{inner}"
        yield name, outer, value
        if isinstance(value, Mapping):
            yield from flat(value, name)


def kind_of(value: Any) -> Kind:
    """Return the kind of column that has this value."""
    if isinstance(value, bool) or value is None:
        return Kind.OTHER
    if isinstance(value, int | float):
        return Kind.NUMBERS
    if isinstance(value, str):
        return Kind.VECTORS if vectors.is_text_of_vector(value) else Kind.OTHER
    if isinstance(value, list | bytes):
        return Kind.OTHER if isinstance(vectors.read(value), str) else Kind.VECTORS
    return Kind.OTHER


class Slices(Protocol):
    """An array that is read from its beginning to its end, or sliced."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each dimension."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Read some rows."""


@dataclass
class Arrays:
    """A table of a format that holds arrays: those as long as the vectors are its columns."""

    arrays: Mapping[str, Slices]
    unit: Literal["row", "line"] = "row"
    parts: int = 1
    objects: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        if not self.arrays:
            raise ValueError("holds no arrays")

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Return the arrays, whatever their length."""
        return {name: _kind_of_array(array) for name, array in self.arrays.items()}

    def check_lengths(self, names: Iterable[str]) -> None:
        """Raise ValueError unless these arrays are as long as the first of them."""
        shapes = [(name, self.arrays[name].shape) for name in names]
        for name, shape in shapes[1:]:
            first, wanted = shapes[0]
            if shape[:1] != wanted[:1]:
                raise ValueError(
                    f"has the array {name!r} of shape {shape}, but {first!r} of shape {wanted};"
                    " allowed is one value for each vector. --drop leaves an array out"
                )

    def chunks(self, part: int, names: Sequence[str]) -> Iterator[Chunk]:
        """Read the rows, chunk by chunk."""
        count = self.arrays[names[0]].shape[0]
        arrays = {
            name: self.arrays[name] for name in names if self.arrays[name].shape[:1] == (count,)
        }
        for at in range(0, count, CHUNK):
            rows = slice(at, min(at + CHUNK, count))
            columns = {name: Array(np.asarray(array[rows])) for name, array in arrays.items()}
            places = range(rows.start, rows.stop)
            yield Chunk(columns, places, places)


def _kind_of_array(array: Slices) -> Kind:
    is_number = array.dtype.kind in "fiu"
    if len(array.shape) == 2:
        return Kind.VECTORS if is_number else Kind.OTHER
    return Kind.NUMBERS if is_number and len(array.shape) == 1 else Kind.OTHER
