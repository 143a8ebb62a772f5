"""The registry of file formats, and the reader that gives the rows of any file."""

from __future__ import annotations

import csv as csv_library
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from lzma import LZMAError
from tokenize import TokenError
from typing import IO, Any, Literal, NamedTuple
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

from ingest.files import compression, dtypes, table
from ingest.files.columns import Choice, Options, choose, it_has
from ingest.files.names import METADATA, TEXT
from ingest.files.remote import shown
from ingest.files.source import Source, partitions, path_of, plain
from ingest.files.table import Chunk, Column, Filled, Objects, Table
from ingest.files.vectors import bytes_of
from ingest.runtime.errors import PayloadError
from ingest.runtime.extras import needs

Want = Literal["vectors", "ids", "times", "models", "metadata"]

ALL: tuple[Want, ...] = ("vectors", "ids", "times", "models", "metadata")


class Format(NamedTuple):
    """A format of files.

    Attributes
    ----------
    name : str
    opener : str
        Module of this package, and its function that opens a file.
    suffixes : tuple of str
        They choose the format of a file whose first bytes do not.
    magic : tuple of bytes
        What every file of the format begins with.
    takes_vector : bool
        Whether the opener also takes the column of vectors that the options name.
    """

    name: str
    opener: str
    suffixes: tuple[str, ...]
    magic: tuple[bytes, ...] = ()
    takes_vector: bool = False

    def open(self, file: IO[bytes], options: Options) -> Table:
        """Open a file."""
        module, function = self.opener.split(":")
        opener: Callable[..., Table] = getattr(import_module(f"ingest.files.{module}"), function)
        return opener(file, options.vector) if self.takes_vector else opener(file)


FORMATS = (
    Format("Parquet", "arrow:Parquet", (".parquet", ".pq"), (b"PAR1",)),
    Format(
        "Arrow", "arrow:Arrow", (".arrow", ".feather", ".ipc"), (b"ARROW1", b"\xff\xff\xff\xff")
    ),
    Format("npy", "npy:open_npy", (".npy",), (b"\x93NUMPY",)),
    Format("npz", "npy:open_npz", (".npz",), (b"PK\x03\x04", b"PK\x05\x06")),
    Format("HDF5", "hdf5:open_table", (".hdf5", ".h5"), (b"\x89HDF\r\n\x1a\n",)),
    Format("CSV", "csv:open_table", (".csv", ".tsv")),
    Format("JSON", "json:open_table", (".json", ".jsonl", ".ndjson"), takes_vector=True),
    Format("fvecs", "fvecs:open_fvecs", (".fvecs",)),
    Format("bvecs", "fvecs:open_bvecs", (".bvecs",)),
)
"""All formats. A new one is a module and a line here."""

SUFFIXES = tuple(suffix for each in FORMATS for suffix in each.suffixes)

_DAMAGED = (
    ValueError,
    EOFError,
    NotImplementedError,
    OverflowError,
    TypeError,
    KeyError,
    RuntimeError,
    MemoryError,
    TokenError,
    LZMAError,
    csv_library.Error,
    zipfile.BadZipFile,
    zlib.error,
)
"""Errors that the libraries below the formats raise for a damaged file."""

_EMPTY = "has an empty vector"


class Fault(NamedTuple):
    """A row that cannot be used.

    Attributes
    ----------
    file, unit : str
    place, number : int
        See `Chunk`.
    reason : str
        What is wrong, and what is allowed.
    """

    file: str
    unit: str
    place: int
    number: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.unit} {self.number} {self.reason}"


@dataclass(frozen=True, slots=True)
class Rows:
    """Good rows of a file, and those between them that are not.

    What is not asked for, or in no column, is empty.

    Attributes
    ----------
    file, unit : str
        For messages about a row: see `Fault`.
    places, numbers : ndarray of int64, shape (n,)
        See `Chunk`.
    vectors : ndarray of float32, shape (n, d)
        They are finite.
    ids : sequence of str or None
    times : ndarray of float64, shape (n,)
        Seconds since the epoch; NaN where missing.
    models : sequence of str or None
    metadata : sequence of mapping
    faults : sequence of Fault
    """

    file: str
    unit: str
    places: NDArray[np.int64]
    numbers: NDArray[np.int64]
    vectors: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    ids: Sequence[str | None] = ()
    times: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    models: Sequence[str | None] = ()
    metadata: Sequence[Mapping[str, Any]] = ()
    faults: Sequence[Fault] = ()

    def __len__(self) -> int:
        return len(self.places)

    def pick(self, rows: Sequence[int], faults: Sequence[Fault]) -> Rows:
        """Copy some of the rows and faults."""
        at = np.asarray(rows, np.intp)
        return Rows(
            self.file,
            self.unit,
            self.places[at],
            self.numbers[at],
            self.vectors[at] if len(self.vectors) else self.vectors,
            [self.ids[row] for row in rows] if self.ids else (),
            self.times[at] if len(self.times) else self.times,
            [self.models[row] for row in rows] if self.models else (),
            [self.metadata[row] for row in rows] if self.metadata else (),
            faults,
        )

    def fault(self, row: int, reason: str) -> Fault:
        """Say what is wrong with a row, given its index."""
        return Fault(self.file, self.unit, int(self.places[row]), int(self.numbers[row]), reason)


@dataclass
class Dimensions:
    """The dimension of each model's vectors: that of most of those that are read first together."""

    known: dict[str | None, int] = field(default_factory=dict)

    def learn(self, found: Iterable[tuple[str | None, int]]) -> None:
        """Learn those of models that are new, given the model and dimension of each vector.

        Of the first vector alone, one bad row could make all others bad.
        """
        for (model, length), _ in Counter(found).most_common():
            self.known.setdefault(model, length)


class File:
    """An open file: its columns are chosen, its rows can be read."""

    def __init__(
        self, name: str, opened: Table, folders: Mapping[str, str | None], options: Options
    ):
        self.name = name
        self._table = opened
        # Vectors are in the file, whatever a folder is named.
        self._folders = {
            name: value
            for name, value in folders.items()
            if opened.kinds.get(name) is not table.Kind.VECTORS
        }
        self._options = options
        self._kinds = dict.fromkeys(self._folders, table.Kind.FOLDER) | dict(opened.kinds)
        self.choice: Choice | None = (
            choose(self._kinds, options, opened.objects) if opened.kinds else None
        )
        if isinstance(opened, table.Arrays) and self.choice is not None:
            # Without its ids or times, a row would be stored as another one.
            opened.check_lengths(name for name in self.choice.roles if name in opened.kinds)

    @property
    def parts(self) -> int:
        """Parts that can be read by themselves."""
        return self._table.parts

    def rows(
        self,
        part: int,
        want: Collection[Want] = ALL,
        dimensions: Dimensions | None = None,
    ) -> Iterator[Rows]:
        """Read a part of the file, some rows at a time.

        Parameters
        ----------
        part : int
        want : collection of str
            What to read of each row.
        dimensions : Dimensions, optional
            Those of vectors that were read before, and then also of these. A vector of another one
            is a fault.

        Raises
        ------
        PayloadError
            If the file is damaged.
        """
        dimensions = Dimensions() if dimensions is None else dimensions
        names = self._names(want)
        with naming(self.name):
            for chunk in self._table.chunks(part, names):
                yield _rows(self, chunk, want, dimensions)

    def _names(self, want: Collection[Want]) -> list[str]:
        if self.choice is None:
            return []
        choice = self.choice
        wanted = {
            "vectors": choice.vectors,
            "ids": (choice.id,),
            "times": (choice.time,),
            "models": (choice.model,),
            "metadata": (choice.text, *choice.others),
        }
        names = [name for key in want for name in wanted[key] if name is not None]
        # Arrays beside the vectors are known by their length.
        is_array = isinstance(self._table, table.Arrays)
        names = [*choice.vectors[:1] * is_array, *names]
        of_folders = self._folders.keys() - self._table.kinds.keys()
        return [name for name in dict.fromkeys(names) if name not in of_folders]

    def column(self, chunk: Chunk, name: str | None) -> Column | None:
        """Return a column of a chunk. Where it has no value, that of a folder counts."""
        if name is None:
            return None
        column = chunk.columns.get(name)
        if name not in self._folders:
            return Objects([None] * len(chunk)) if column is None else column
        value = self._folders[name]
        if column is None:
            return Objects([value] * len(chunk))
        return column if value is None else Filled(column, value)

    def values(self, column: Column, name: str) -> list[Any]:
        """Return the values of a column, without the fields of objects that are dropped."""
        if any(each.startswith(f"{name}.") for each in self._options.drop):
            return [_without(value, name, self._options.drop) for value in column.values()]
        return column.values()

    def is_dropped(self, name: str) -> bool:
        """Return whether a column of this name is left out."""
        return name in self._options.drop

    def is_new(self, name: str) -> bool:
        """Return whether a column was not there when the file was opened."""
        return name not in self._kinds

    @property
    def columns(self) -> str:
        """The columns, as a part of a sentence."""
        return it_has(self._kinds)

    @property
    def unit(self) -> str:
        """What the numbers of rows count: rows from 0 or lines from 1."""
        return self._table.unit

    @property
    def times(self) -> table.Times:
        """How times are read."""
        return self._options.times


@contextmanager
def opened(source: Source, file: str, options: Options) -> Iterator[File]:
    """Open a file in the format that its content or its name says.

    Raises
    ------
    PayloadError
        If the file cannot be read, or holds no vectors; names the file and what is allowed.
    """
    name = source.name(file)
    with ExitStack() as stack:
        with naming(name):
            content = compression.opened(stack.enter_context(source.open(file)))
            path = path_of(file)
            # Of many files, some may be empty: jobs leave such, compressed or not.
            is_left_out = len(source.files) > 1 and not content.read(1)
            content.seek(0)
            nothing = table.Records("row", ())
            held = nothing if is_left_out else _format(plain(path), content).open(content, options)
            found = File(name, held, partitions(path), options)
        yield found


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Raise PayloadError for what is wrong with a file, or missing to read it, with its name.

    A module that the extra does not install is a fault of the installation, and raised as it is.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise PayloadError(f"{name}: {needs(error, 'files')}") from error
    except PayloadError as error:
        if str(error).startswith(name):
            raise
        raise PayloadError(f"{name}: {error}") from error
    except OSError as error:
        raise PayloadError(f"{name}: {shown(error.strerror or str(error))}") from error
    except _DAMAGED as error:
        raise PayloadError(f"{name}: {shown(str(error) or type(error).__name__)}") from error


def _format(name: str, content: IO[bytes]) -> Format:
    start = content.read(64)
    content.seek(0)
    for each in FORMATS:
        if any(start.startswith(magic) for magic in each.magic):
            return each
    by_name = next((each for each in FORMATS if name.endswith(each.suffixes)), None)
    if not start:
        raise ValueError("is empty")
    # The length of a vector in .fvecs may look like a bracket, but no text has zeros.
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if text in (b"{", b"[") and b"\0" not in start:
        return next(each for each in FORMATS if each.name == "JSON")
    if by_name is not None and by_name.magic:
        raise ValueError(
            f"is not {by_name.name}: it begins with {start[:12]!r}. Is it cut off, or of another"
            " format than its suffix says?"
        )
    if by_name is not None:
        return by_name
    raise ValueError(f"is of unknown format; allowed are {', '.join(SUFFIXES)}, compressed or not")


def _rows(file: File, chunk: Chunk, want: Collection[Want], dimensions: Dimensions) -> Rows:
    choice = file.choice
    if choice is None or not len(chunk):
        none = np.empty(0, np.int64)
        listed = [Fault(file.name, file.unit, *each) for each in chunk.faults]
        return Rows(file.name, file.unit, none, none, faults=listed)
    count = len(chunk)
    reasons: list[str | None] = [None] * count
    models = _models(file, chunk, reasons) if "models" in want else ()
    ids = _ids(file, chunk, reasons) if "ids" in want else ()
    times = _times(file, chunk, reasons) if "times" in want else None
    vectors = None
    if "vectors" in want:
        vectors = _vectors(file, chunk, models, dimensions, reasons)
    metadata = _metadata(file, chunk) if "metadata" in want else ()
    good = np.array([reason is None for reason in reasons], bool)
    found = zip(chunk.places, chunk.numbers, reasons, strict=True)
    bad = [(place, number, reason) for place, number, reason in found if reason is not None]
    kept = np.flatnonzero(good).tolist()

    def pick(items: Sequence[Any]) -> Sequence[Any]:
        return items if len(kept) == count or not items else [items[row] for row in kept]

    return Rows(
        file.name,
        file.unit,
        np.asarray(chunk.places, np.int64)[good],
        np.asarray(chunk.numbers, np.int64)[good],
        np.empty((0, 0), np.float32) if vectors is None else vectors,
        pick(ids),
        np.empty(0) if times is None else times[good],
        pick(models),
        pick(metadata),
        [Fault(file.name, file.unit, *each) for each in sorted([*chunk.faults, *bad])],
    )


def _models(file: File, chunk: Chunk, reasons: list[str | None]) -> Sequence[str | None]:
    assert file.choice is not None
    column = file.column(chunk, file.choice.model)
    if column is None:
        return ()
    names = [None if value is None else str(value) for value in column.values()]
    for row, name in enumerate(names):
        if not name:
            reasons[row] = f"has no model in column {file.choice.model!r}"
    return names


def _ids(file: File, chunk: Chunk, reasons: list[str | None]) -> Sequence[str | None]:
    assert file.choice is not None
    column = file.column(chunk, file.choice.id)
    if column is None:
        return ()
    values = column.values()
    for row, value in enumerate(values):
        reasons[row] = reasons[row] or wrong_id(value, column.inexact_from)
    return [id_text(value) for value in values]


def wrong_id(value: Any, inexact_from: float) -> str | None:
    """Return what is wrong with the type of an id; None if nothing is.

    Parameters
    ----------
    value : object
    inexact_from : float
        That of its column.
    """
    if isinstance(value, bool | list | Mapping):
        return f"has {value!r:.40} as id; allowed are texts and integers"
    if isinstance(value, float) and abs(value) >= inexact_from:
        return f"has {value!r} as id, a float that cannot tell it from others; allowed are integers"
    return None


def id_text(value: Any) -> str | None:
    """Return an id as text: 7.0, as pandas makes of 7, is "7"; bytes of no text are hexadecimal."""
    if value is None or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, bytes):
        return str(value)
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return value.hex()
    return value.hex() if any(category(each) == "Cc" for each in text) else text


def _times(file: File, chunk: Chunk, reasons: list[str | None]) -> NDArray[np.float64] | None:
    assert file.choice is not None
    name = file.choice.time
    column = file.column(chunk, name)
    if column is None:
        return None
    found = column.seconds(file.times)
    if not isinstance(found, np.ndarray):
        for row, value in enumerate(found):
            if isinstance(value, str):
                reasons[row] = _misread_time(name, value)
        found = np.array([np.nan if isinstance(value, str) else value for value in found])
    return found


def _misread_time(name: str | None, reason: str) -> str:
    if "time zone" in reason:
        hint = "; --time-zone declares one"
    elif "looks like" in reason:
        hint = "; --time-unit declares what the numbers count"
    else:
        hint = ""
    return f"has a wrong time in column {name!r}: {reason}{hint}"


def _vectors(
    file: File,
    chunk: Chunk,
    models: Sequence[str | None],
    dimensions: Dimensions,
    reasons: list[str | None],
) -> NDArray[np.float32]:
    """Return the vectors of good rows, shape (n, d), and give the reasons of the others."""
    assert file.choice is not None
    found = _wide(file, chunk) if file.choice.is_wide else _narrow(file, chunk)
    if isinstance(found, np.ndarray) and not models:
        whole = _fits(found.shape[1], dimensions, None)
        if whole is not None:
            reasons[:] = [reason or whole for reason in reasons]
            return np.empty((0, 0), np.float32)
        _check_finite(found, reasons)
        good = [reason is None for reason in reasons]
        return np.ascontiguousarray(found if all(good) else found[good])
    for row, vector in enumerate(found):
        reasons[row] = reasons[row] or _wrong(vector)
    names = models or [None] * len(reasons)
    sound = [row for row, reason in enumerate(reasons) if reason is None]
    dimensions.learn((names[row], len(found[row])) for row in sound)
    vectors = []
    for row in sound:
        reasons[row] = _fits(len(found[row]), dimensions, names[row])
        if reasons[row] is None:
            vectors.append(found[row])
    # Vectors of several models may differ in dimension.
    if len({len(vector) for vector in vectors}) > 1:
        ragged = np.empty(len(vectors), object)
        ragged[:] = vectors
        return ragged
    return np.stack(vectors) if vectors else np.empty((0, 0), np.float32)


def _wrong(vector: NDArray[np.float32] | str) -> str | None:
    """Return what is wrong with a vector by itself; None if nothing is."""
    if isinstance(vector, str):
        return vector
    return _doubt(vector) or _not_finite(vector) or (None if len(vector) else _EMPTY)


def _doubt(vector: NDArray[np.float32]) -> str | None:
    """Return why a vector from bytes seems to be of another type than float32; None if not."""
    data = bytes_of(vector)
    return None if data is None else dtypes.doubt(data, None, "write float32 or lists of numbers")


def _narrow(file: File, chunk: Chunk) -> table.Vectors:
    assert file.choice is not None
    column = file.column(chunk, file.choice.vectors[0])
    assert column is not None
    return column.vectors()


def _wide(file: File, chunk: Chunk) -> table.Vectors:
    """Join the columns of components."""
    assert file.choice is not None
    parts = [chunk.columns[name].numbers() for name in file.choice.vectors]
    listed = (part for part in parts if not isinstance(part, np.ndarray))
    if not any(isinstance(value, str) for part in listed for value in part):
        return _float32(np.stack(parts, axis=1))
    return [_wide_row(file.choice.vectors, row) for row in zip(*parts, strict=True)]


def _wide_row(names: Sequence[str], row: Sequence[float | str]) -> NDArray[np.float32] | str:
    for name, value in zip(names, row, strict=True):
        if isinstance(value, str):
            return f"has a component, column {name!r}, that {value}"
    return _float32(np.array(row, np.float64))


def _float32(numbers: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):
        return numbers.astype(np.float32)


def _fits(length: int, dimensions: Dimensions, model: str | None) -> str | None:
    """Return why a vector does not fit to the others of its model; None if it does."""
    if not length:
        return _EMPTY
    known = dimensions.known.setdefault(model, length)
    if length == known:
        return None
    return f"has a vector of {length} components, those of other rows {known}"


def _check_finite(vectors: NDArray[np.float32], reasons: list[str | None]) -> None:
    finite = np.isfinite(vectors)
    if finite.all():
        return
    for row in np.flatnonzero(~finite.all(axis=1)).tolist():
        reasons[row] = reasons[row] or _not_finite(vectors[row])


def _not_finite(vector: NDArray[np.float32]) -> str | None:
    finite = np.isfinite(vector)
    if finite.all():
        return None
    return (
        f"has a vector whose component {int(finite.argmin())} is missing, NaN, infinite or too"
        " large for float32"
    )


def _metadata(file: File, chunk: Chunk) -> Sequence[Mapping[str, Any]]:
    assert file.choice is not None
    names = [name for name in (file.choice.text, *file.choice.others) if name is not None]
    columns: dict[str, list[Any]] = {}
    for name in names:
        column = file.column(chunk, name)
        if column is not None:
            columns[TEXT if name == file.choice.text else name] = file.values(column, name)
    for name in chunk.columns:
        if file.is_new(name):
            columns[name] = file.values(chunk.columns[name], name)
    rows = [
        {
            name: value
            for name, value in zip(columns, values, strict=True)
            if value is not None and value == value
        }
        for values in zip(*columns.values(), strict=True)
    ] or [{} for _ in range(len(chunk))]
    for row in rows:
        inner = row.get(METADATA)
        if isinstance(inner, Mapping):
            del row[METADATA]
            row.update(
                {
                    name: value
                    for name, value in inner.items()
                    if name not in row and value is not None and not file.is_dropped(name)
                }
            )
    return rows if any(rows) else ()


def _without(value: Any, name: str, dropped: Collection[str]) -> Any:
    """Return the value of a column or field without what is dropped of the objects in it."""
    if isinstance(value, list):
        # Where one object is many in another row, as converters of XML write it.
        return [_without(each, name, dropped) for each in value]
    if not isinstance(value, Mapping):
        return value
    return {
        inner: _without(each, f"{name}.{inner}", dropped)
        for inner, each in value.items()
        if f"{name}.{inner}" not in dropped
    }
