"""Spans in JSON, which OTLP writes in its own way: ids in hexadecimal, and names in camel case."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec
import numpy as np
from msgspec import Meta, Raw
from numpy.typing import NDArray

from ingest.formats import checks
from ingest.otlp.spans import Span, check_length, not_a_list, not_a_number
from ingest.runtime.errors import PayloadError
from ingest.runtime.settings.settings import IngestSettings

T = TypeVar("T")

_Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_UINT64_END = 2**64
_UINT64_DIGITS = 20
_HALF = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
"""Half a surrogate pair, where no escaped backslash may stand before the u."""

_PLACE = re.compile(r" \(byte \d+\)$")


class _Message(msgspec.Struct, rename="camel", gc=False):
    """A message. Unknown fields are ignored, and null is the same as no value, as OTLP says."""


class _KeyValue(_Message):
    key: str | None = None
    value: Raw = Raw(b"{}")


class _Attributes(_Message):
    attributes: list[_KeyValue] | None = None


class _Span(_Attributes):
    trace_id: str | None = None
    span_id: str | None = None
    end_time_unix_nano: int | float | str | None = None
    dropped_attributes_count: int | float | str | None = None


class _ScopeSpans(_Message):
    spans: list[_Span] | None = None


class _ResourceSpans(_Message):
    resource: _Attributes | None = None
    scope_spans: list[_ScopeSpans] | None = None


class _Request(_Message):
    resource_spans: list[_ResourceSpans] | None = None


class _AnyValue(_Message):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: _Int64 | str | None = None
    double_value: float | str | None = None
    array_value: _Array | None = None
    kvlist_value: _Pairs | None = None
    bytes_value: str | None = None


class _Text(_Message):
    string_value: str | None = None


class _Array(_Message):
    values: list[_AnyValue] | None = None


class _Pair(_Message):
    key: str | None = None
    value: _AnyValue | None = None


class _Pairs(_Message):
    values: list[_Pair] | None = None


class _Number(_Message):
    """An element of a vector: an AnyValue of which only numbers are decoded, to be faster."""

    double_value: float | str | None = None
    int_value: _Int64 | str | None = None


class _Numbers(_Message):
    values: list[_Number] | None = None


class _Vector(_Message):
    array_value: _Numbers | None = None


_REQUEST = msgspec.json.Decoder(_Request)
_VECTOR = msgspec.json.Decoder(_Vector | None)
_TEXT = msgspec.json.Decoder(_Text | None)
_ANY = msgspec.json.Decoder(_AnyValue | None)


@dataclass(frozen=True, slots=True)
class Value:
    """The value of an attribute."""

    json: Raw

    def plain(self) -> object:
        """Return the value as JSON has it; bytes as base64."""
        try:
            plain = _plain(_decoded(_ANY, self.json) or _AnyValue())
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from error
        except RecursionError as error:
            raise ValueError(checks.TOO_DEEP) from error
        if checks.is_too_deep(plain):
            raise ValueError(checks.TOO_DEEP)
        return plain

    def text(self) -> str | None:
        """Return the value if it is a text."""
        try:
            decoded = _decoded(_TEXT, self.json)
        except ValueError:
            return None
        return None if decoded is None else decoded.string_value

    def vector(self, limits: IngestSettings) -> NDArray[np.float32]:
        """Return a list of numbers as a vector."""
        text = bytes(self.json)
        # Every element is an object, within two more. Not decoded if far too long.
        if text.count(b"{") > limits.max_dimension + 2:
            check_length(text.count(b"{") - 2, limits)
        decoded = _decoded(_VECTOR, self.json)
        array = None if decoded is None else decoded.array_value
        if array is None:
            raise not_a_list(self.plain())
        values = array.values or []
        check_length(len(values), limits)
        numbers = [
            element.int_value if element.double_value is None else element.double_value
            for element in values
        ]
        if None in numbers:
            plain = self.plain()
            assert isinstance(plain, list)
            at = numbers.index(None)
            raise not_a_number(plain[at], at)
        with np.errstate(over="ignore"):
            # Texts are NaN, Infinity, and integers of 64 bits.
            return _floats(numbers).astype(np.float32)


def read(body: bytes) -> Iterator[Span]:
    """Read the spans of a request.

    Raises
    ------
    PayloadError
        If the body is not an ExportTraceServiceRequest.
    """
    try:
        yield from _spans(body)
    except ValueError as error:
        raise PayloadError(
            f"the body is not an ExportTraceServiceRequest in JSON: {error}"
        ) from error


def _spans(body: bytes) -> Iterator[Span]:
    for of_resource in _decoded(_REQUEST, body).resource_spans or ():
        resource = _attributes(of_resource.resource)
        for of_scope in of_resource.scope_spans or ():
            for span in of_scope.spans or ():
                yield Span(
                    (span.trace_id or "").lower(),
                    (span.span_id or "").lower(),
                    _time(span.end_time_unix_nano or 0),
                    _attributes(span),
                    resource,
                    _count(span.dropped_attributes_count or 0),
                )


def _decoded(decoder: msgspec.json.Decoder[T], text: bytes | Raw) -> T:
    """Decode JSON. Whatever is wrong with it, but for parts of characters, is a ValueError."""
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _decoded_mended(decoder, bytes(text), error)
    except RecursionError as error:
        raise ValueError(checks.TOO_DEEP) from error


def _decoded_mended(decoder: msgspec.json.Decoder[T], text: bytes, reason: Exception) -> T:
    """Decode JSON with U+FFFD for parts of characters, if it has any; or raise what is wrong.

    JavaScript cuts texts within a surrogate pair, other languages within the bytes of UTF-8. One
    such text must not cost a whole request.
    """
    utf8 = text.decode(errors="replace").encode()
    # Another spelling of a backslash, after which each \u is an escape.
    escaped = utf8.replace(rb"\\", rb"\u005c")
    mended = _HALF.sub(rb"\\ufffd", escaped)
    if utf8 != text or mended != escaped:
        try:
            return decoder.decode(mended)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from error
        except (msgspec.DecodeError, RecursionError) as error:
            # Its place is one in another text.
            fault, misspelt = _PLACE.sub("", str(error)), checks.misspelt(text)
            raise ValueError(fault if misspelt is None else f"{fault}; it {misspelt}") from error
    raise ValueError(str(reason)) from reason


def _floats(numbers: Sequence[float | str | None]) -> NDArray[np.float64]:
    try:
        return np.array(numbers, np.float64)
    except ValueError as error:
        at, text = next(each for each in enumerate(numbers) if not _is_number(each[1]))
        raise not_a_number(text, at) from error


def _is_number(number: float | str | None) -> bool:
    try:
        np.float64(number)
    except ValueError:
        return False
    return True


def _time(written: float | str) -> int | str:
    """Return an unsigned integer of 64 bits; anything else as text."""
    if isinstance(written, float) and written.is_integer():
        written = int(written)
    text = str(written)
    # The length first: to read a number of many digits takes long.
    if len(text) > _UINT64_DIGITS or not (text.isascii() and text.isdecimal()):
        return text
    time = int(text)
    return time if time < _UINT64_END else text


def _count(written: float | str) -> int:
    """Return a number of attributes. One that cannot be read is not 0, so it is 1."""
    count = _time(written)
    return count if isinstance(count, int) else 1


def _attributes(message: _Attributes | None) -> dict[str, Value]:
    pairs: Iterable[_KeyValue] = () if message is None else message.attributes or ()
    return {pair.key or "": Value(pair.value) for pair in pairs}


def _plain(value: _AnyValue) -> object:
    if value.array_value is not None:
        return [_plain(element) for element in value.array_value.values or ()]
    if value.kvlist_value is not None:
        pairs = value.kvlist_value.values or ()
        return {pair.key or "": _plain(pair.value or _AnyValue()) for pair in pairs}
    if value.double_value is not None:
        return float(value.double_value)
    if value.int_value is not None:
        return msgspec.convert(value.int_value, _Int64, strict=False)
    scalars = (value.string_value, value.bool_value, value.bytes_value)
    return next((scalar for scalar in scalars if scalar is not None), None)
