"""Read JSON: one value a line, a list of them, columns, and the answers of embedding APIs."""

from __future__ import annotations

import io
import json
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import IO, Any, NamedTuple

import msgspec

from ingest.files.names import EMBEDDING, ID, METADATA, MODEL, TEXT, TIMESTAMP, USUAL
from ingest.files.table import Records, flat
from ingest.files.vectors import is_text_of_vector

Record = dict[str, Any] | str

_PLURAL = {"metadatas": METADATA, "payload": METADATA, "documents": TEXT, "texts": TEXT}
"""Names that vector stores and embedding APIs use, and ours."""
_LISTS = (
    "data",
    "rows",
    "records",
    "points",
    "vectors",
    "results",
    "matches",
    "items",
    "objects",
    "hits",
    "documents",
)
"""Names under which an object may hold the list of all rows."""
_ONCE = (ID, "_id", TEXT)
"""Names of what each row has one of."""
_EACH = (*_ONCE, "ids", TIMESTAMP, MODEL, "documents", "texts")
"""Names of lists that have one value for each vector."""
_NUMBERS: dict[str, type[int] | type[float]] = {
    "$numberLong": int,
    "$numberInt": int,
    "$numberDouble": float,
}
_EXTENDED = ("$oid", "$uuid", "$date", *_NUMBERS)
"""Names by which MongoDB's Extended JSON tells the type of a value."""
_BETWEEN = re.compile(r"[\s,\ufeff\0]*")
"""What may stand between two values: files that were joined have marks of their encoding."""
_READ = 2**20
_LINE = msgspec.json.Decoder()
_PYTHON = json.JSONDecoder()


def open_table(file: IO[bytes], vector: str | None = None) -> Records:
    """Open a file. A row's number is that of its line or, within one document, its index.

    Parameters
    ----------
    file : file of bytes
    vector : str, optional
        Column of vectors, as in `Options`. An object that has one there is a row.
    """
    mark = file.read(len(BOM_UTF8))
    start = len(BOM_UTF8) if mark == BOM_UTF8 else 0
    if mark.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        file.seek(0)
        file = io.BytesIO(file.read().decode("utf-16").encode())
    file.seek(start)
    is_document = _is_document(file)
    file.seek(start)
    if is_document:
        return Records("row", _document(io.TextIOWrapper(file, encoding="utf-8"), vector))
    is_alone = _is_alone(file)
    file.seek(start)
    return Records("line", _lines(file, is_alone, vector))


def _is_document(file: IO[bytes]) -> bool:
    """Return whether a file is one value or several without lines, rather than one a line."""
    # Not whole lines: a document may be one of many gigabytes.
    pieces = iter(lambda: file.readline(_READ), b"")
    first = next(filter(None, map(bytes.strip, pieces)), b"")
    if len(first) > _READ // 2:
        return first[:1] == b"[" or _has_several(first)
    try:
        value = _decode(first)
    except (ValueError, RecursionError):
        is_open = first[:1] == b"{" and first[-1:] in b"{[,:"
        return first[:1] == b"[" or is_open or _has_several(first)
    if isinstance(value, list):
        if _is_vector(value):
            return False
        # A list of nothing, or with null in it, may be the first of many lines.
        if any(isinstance(each, list | dict) for each in value):
            return True
    return not any(map(bytes.strip, pieces))


def _is_alone(file: IO[bytes]) -> bool:
    """Return whether a file has one line, blank ones apart."""
    pieces = iter(lambda: file.readline(_READ), b"")
    piece = next(filter(bytes.strip, pieces), b"")
    while piece and not piece.endswith(b"\n"):
        piece = next(pieces, b"")
    return not any(map(bytes.strip, pieces))


def _has_several(line: bytes) -> bool:
    """Return whether a line begins with one object after the other."""
    text = line.decode(errors="replace")
    try:
        _, end = _PYTHON.raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return text[end:].lstrip().startswith("{")


def _is_vector(value: list[Any]) -> bool:
    return bool(value) and all(isinstance(item, int | float) for item in value)


def _lines(file: IO[bytes], is_alone: bool, vector: str | None) -> Iterator[tuple[int, Record]]:
    rows = _Rows(vector)
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            value = _decode(line)
        except (ValueError, RecursionError) as error:
            yield number, f"is not valid JSON: {error}"
        else:
            is_by_key = is_alone and _is_rows_by_key(value, vector)
            for record in _by_key(value) if is_by_key else rows.of(value):
                yield number, record


def _decode(line: bytes) -> Any:
    try:
        return _LINE.decode(line)
    except msgspec.DecodeError as error:
        # Python and others write NaN and Infinity, which are not JSON.
        try:
            return json.loads(line)
        except json.JSONDecodeError:
            raise error from None


def _document(text: IO[str], vector: str | None) -> Iterator[tuple[int, Record]]:
    """Read the elements of lists, or objects that follow each other, one by one."""
    count = 0
    rows = _Rows(vector)
    for value in _elements(text):
        for record in _by_key(value) if _is_rows_by_key(value, vector) else rows.of(value):
            yield count, record
            count += 1


def _elements(text: IO[str]) -> Iterator[Any]:
    """Decode the elements of lists, or other values, so that only one of them is in memory."""
    held, at, is_list = "", 0, False
    while True:
        at = _BETWEEN.match(held, at).end()  # type: ignore[union-attr]
        if held.startswith("]" if is_list else "[", at):
            is_list = not is_list
            at += 1
            continue
        try:
            value, end = _PYTHON.raw_decode(held, at)
            reason = None
        except json.JSONDecodeError as error:
            value, end, reason = None, len(held), error.msg
        if end == len(held):
            # It may go on in what is not read yet. More of a long one is read at a time.
            more = text.read(max(_READ, len(held) - at))
            if more:
                held, at = held[at:] + more, 0
                continue
            if is_list or (reason is not None and at < end):
                reason = reason or "the list does not end"
                raise ValueError(f"is not valid JSON, or cut off: {reason}")
            if at == end:
                return
        yield value
        at = end


class _Rows:
    """Finds the rows in the values of a file.

    If the first value has a vector by name, it is a row, and so is each other value that has this
    name. Otherwise a bad vector would be passed over, and vectors beside it taken for rows.
    """

    def __init__(self, vector: str | None) -> None:
        self._vector = vector
        self._name: str | None = None
        self._is_first = True

    def of(self, value: Any) -> Iterator[Record]:
        """Yield the rows that one value stands for."""
        own = _own(value, self._vector) if self._is_first and isinstance(value, dict) else None
        self._is_first = False
        if own is not None and own.name in value and not _is_matrix(own.value):
            self._name = own.name
        if self._name is not None and isinstance(value, dict) and self._is_row(value, self._name):
            yield _row(value)
        else:
            yield from _records(value, self._vector)

    def _is_row(self, value: Mapping[str, Any], name: str) -> bool:
        if name in value:
            return not _is_matrix(value[name])
        return _own(value, self._vector) is None


def _records(value: Any, vector: str | None) -> Iterator[Record]:
    """Yield the rows that one value stands for."""
    if isinstance(value, list):
        yield {EMBEDDING: value}
    elif not isinstance(value, dict):
        yield f"has {value!r:.40} where an object with a vector is needed"
    elif "custom_id" in value and _is_answer(value, "response", vector):
        yield from _of_batch(value, vector)
    elif value.get("result") is not None and _is_answer(value, "result", vector):
        yield from _of_object(value["result"], vector)
    else:
        yield from _of_object(value, vector)


def _is_answer(value: Mapping[str, Any], name: str, vector: str | None) -> bool:
    """Return whether what an object holds under a name is all that counts.

    It is an object or, after a failure, null. With a vector beside it, it is metadata of a row.
    """
    return (
        name in value
        and isinstance(value[name], dict | None)
        and _own(value, vector) is None
        and not _vectors(value)
    )


def _of_batch(line: Mapping[str, Any], vector: str | None) -> Iterator[Record]:
    """Read one line of the output of the OpenAI Batch API."""
    response = line["response"] or {}
    body = response.get("body")
    if not isinstance(body, dict):
        body = {}
    error = line.get("error") or body.get("error")
    if error or response.get("status_code", 200) != 200 or "data" not in body:
        reason = error.get("message", error) if isinstance(error, Mapping) else error
        yield f"is request {line['custom_id']!r}, which failed: {reason or 'it has no answer'}"
        return
    found = list(_of_object(body, vector))
    for at, record in enumerate(found):
        if isinstance(record, dict):
            name = str(line["custom_id"])
            yield {**record, ID: name if len(found) == 1 else f"{name}/{at}"}
        else:
            yield record


def _of_object(value: dict[str, Any], vector: str | None) -> Iterator[Record]:
    """Yield the rows of an object that holds several, or else the object as a row."""
    own = _own(value, vector)
    rows: Iterable[Record] | None = None
    if own is None:
        rows = _split(value)
        if rows is None:
            rows = _listed(value, vector)
        if rows is None:
            rows = _columns(value, None)
    elif _is_matrix(own.value):
        rows = _columns(value, own.name)
    for row in [value] if rows is None else rows:
        yield row if isinstance(row, str) else _row(row)


class _Own(NamedTuple):
    """The vector of an object, or a column of them, and its name."""

    name: str
    value: Any


def _own(value: Mapping[str, Any], vector: str | None) -> _Own | None:
    """Find an object's vectors by name: the one that the option gives counts before the usual ones.

    What lies there may be no vector, if the option or our own name says so.
    """
    named = _named(value, vector)
    if named is not None:
        return named
    if EMBEDDING in value:
        return _Own(EMBEDDING, value[EMBEDDING])
    names = {name.lower(): name for name in value}
    usual = (_Own(names[name], value[names[name]]) for name in USUAL if name in names)
    return next((own for own in usual if _is_one(own.value) or _is_matrix(own.value)), None)


def _named(value: Mapping[str, Any], vector: str | None) -> _Own | None:
    """Find what the option names in an object."""
    if vector is None:
        return None
    return next(
        (
            _Own(name, own)
            for name, _, own in flat(value)
            if name == vector or fnmatchcase(name, vector)
        ),
        None,
    )


def _is_one(value: Any) -> bool:
    """Return whether a value is a vector, or an object with one."""
    if isinstance(value, dict):
        return any(map(_is_one, value.values()))
    if isinstance(value, str):
        return is_text_of_vector(value)
    return _is_list_of_numbers(value)


def _is_list_of_numbers(value: Any) -> bool:
    """Return whether a list begins with a number. All items of each row would take long."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], int | float)


def _is_matrix(value: Any) -> bool:
    """Return whether a value is a list of vectors, some of which may be bad or missing."""
    value = _without_wrapping(value)
    if not isinstance(value, list) or not all(isinstance(row, list | None) for row in value):
        return False
    return any(row is not None and _is_vector(row) for row in value)


def _split(value: Mapping[str, Any]) -> Iterable[dict[str, Any]] | None:
    """Return the rows of pandas' orient="split"."""
    names, rows = value.get("columns"), value.get("data")
    if not isinstance(names, list) or not isinstance(rows, list):
        return None
    if not all(isinstance(cells, list) for cells in rows) or _is_marked_row(value):
        return None
    return (dict(zip(map(str, names), cells, strict=False)) for cells in rows)


def _listed(value: Mapping[str, Any], vector: str | None) -> Iterable[dict[str, Any]] | None:
    """Return the rows that an object has in a list, with its model.

    Names of vectors in them decide. Without any, the list may be a part of one row.
    """
    rows = next((value[name] for name in _LISTS if _is_list_of_objects(value.get(name))), None)
    if rows is None:
        return None
    has_names = any(
        _named(row, vector) is not None or any(name.lower() in USUAL for name in row)
        for row in rows
    )
    inner = (row[name] for row in rows for name in _vectors(row))
    if not has_names and (_is_marked_row(value) or _has_longer(value, inner, len(rows))):
        return None
    left_out = ("object", "index") if value.get("object") == "list" else ()
    model = _model(value)
    return ({k: v for k, v in row.items() if k not in left_out} | model for row in rows)


def _is_marked_row(value: Mapping[str, Any]) -> bool:
    """Return whether an object has a list of numbers, and what each row has one of."""
    return _is_marked(value) and bool(_vectors(value))


def _is_marked(value: Mapping[str, Any]) -> bool:
    return any(isinstance(_plain(value.get(name)), str | int | float) for name in _ONCE)


def _has_longer(value: Mapping[str, Any], inner: Iterable[Sequence[Any]], count: int) -> bool:
    """Return whether an object has a list of numbers that is longer than the vectors within it.

    One with a number for each of ``count`` vectors is a column of them.
    """
    longest = max(map(len, inner), default=0)
    return any(longest < len(value[name]) != count for name in _vectors(value))


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _by_key(value: Mapping[str, Any]) -> Iterator[Record]:
    for key, row in value.items():
        yield _row({ID: key, **row})


def _is_rows_by_key(value: Any, vector: str | None) -> bool:
    """Return whether an object holds rows, each under its id, and nothing else.

    Rows are three or more, and alike. Two objects are rather the two vectors of one row.
    """
    rows = list(value.values()) if isinstance(value, dict) else []
    if len(rows) < 3 or not _is_list_of_objects(rows) or _named(value, vector) is not None:
        return False
    names, vectors = rows[0].keys(), _vectors(rows[0])
    return bool(vectors) and all(
        row.keys() == names and _vectors(row) == vectors for row in rows[1:]
    )


def _vectors(row: Mapping[str, Any]) -> set[str]:
    """Return the names of the vectors in a row."""
    return {name for name, item in row.items() if _is_list_of_numbers(item)}


def _model(value: Mapping[str, Any]) -> dict[str, Any]:
    name = value.get(MODEL, value.get("model"))
    return {MODEL: name} if isinstance(name, str) else {}


def _columns(value: Mapping[str, Any], own: str | None) -> Iterable[Record] | None:
    """Return the rows of an object that holds one list a column, one of them of vectors."""
    lists: dict[str, list[Any]] = {}
    for each, column in value.items():
        column = _without_wrapping(column)
        if isinstance(column, list):
            lists[each] = column
    name = own if own in lists else next(filter(lambda each: _is_matrix(lists[each]), lists), None)
    if name is None:
        return None
    count = len(lists[name])
    columns = {each: column for each, column in lists.items() if len(column) == count}
    if name in (EMBEDDING, "vector") and isinstance(value[name], list) and len(columns) == 1:
        return None  # one row with a vector for each of its tokens, say
    # The answers of Cohere have an id.
    if _is_marked(value) and name != "embeddings":
        return None
    if own is None and _has_longer(value, lists[name], count):
        return None
    short = next((each for each in lists if each in _EACH and each not in columns), None)
    if short is not None:
        return [f"has {len(lists[short])} values of {short!r} for {count} vectors"]
    model = _model(value)
    return ({each: column[at] for each, column in columns.items()} | model for at in range(count))


def _without_wrapping(column: Any) -> Any:
    """Return the list in {"0": ..., "1": ...}, as pandas writes it, or in {"float": [...]}."""
    if isinstance(column, dict) and column:
        if all(name.isdecimal() for name in column):
            return list(column.values())
        if len(column) == 1 and "float" in column:
            return column["float"]
    return column


def _row(row: dict[str, Any]) -> Record:
    """Give text and metadata our names, unless they are taken, and take metadata as columns."""
    row = {name: _plain(value) for name, value in row.items()}
    for name, ours in _PLURAL.items():
        if name in row and ours not in row:
            row[ours] = row.pop(name)
    metadata = row.get(METADATA)
    if isinstance(metadata, dict):
        row = {name: value for name, value in row.items() if name != METADATA}
        return row | {name: value for name, value in metadata.items() if name not in row}
    return row


def _plain(value: Any) -> Any:
    """Return what MongoDB writes as an object, alone or in a list: {"$oid": "..."}."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [_plain(item) for item in value]
    while isinstance(value, dict) and len(value) == 1 and next(iter(value)) in _EXTENDED:
        [(name, value)] = value.items()
        if name in _NUMBERS and isinstance(value, str):
            with suppress(ValueError):
                value = _NUMBERS[name](value)
    return value
