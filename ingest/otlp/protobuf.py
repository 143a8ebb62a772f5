"""Spans in the binary encoding of Protocol Buffers."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue

from ingest.otlp.spans import MOST_SPANS, Span, check_length, not_a_list, not_a_number, too_many
from ingest.runtime.errors import BodyTooLarge, PayloadError
from ingest.runtime.settings.settings import IngestSettings

_DOUBLE = np.dtype([("start", "S3"), ("value", "<f8")])
"""An element of an ArrayValue that is a double, as it is encoded."""
_START = b"\x0a\x09\x21"
"""Field 1 of the ArrayValue with 9 bytes; field 4 of the AnyValue, which is a double."""
_NUMBERS = re.compile(rb"(?s:\x0a(?:\x09\x21.{8}|[\x02-\x0b]\x18[\x80-\xff]*[\x00-\x7f]))*+")
"""An ArrayValue of doubles and integers, as it is encoded."""
_TO_SPANS = (1, 2, 2)
"""Numbers of the fields resource_spans, scope_spans and spans, one in the other."""
_VARINT_BITS = 70
_REQUEST = ExportTraceServiceRequest.DESCRIPTOR
_MOST_FIELDS = 2**20
"""Fields of a request that are looked at. Each takes up to 50 bytes once it is decoded."""
_DEEPEST = 100
"""Messages in each other, as many as Protocol Buffers allows."""
_FEW_BYTES = 4 * 1024 * 1024
"""The fields of a shorter request need not be counted: they take little whatever they are."""


@dataclass(frozen=True, slots=True)
class Value:
    """The value of an attribute."""

    message: AnyValue

    def plain(self) -> object:
        """Return the value as JSON has it; bytes as base64."""
        return _plain(self.message)

    def text(self) -> str | None:
        """Return the value if it is a text."""
        is_text = self.message.WhichOneof("value") == "string_value"
        return self.message.string_value if is_text else None

    def vector(self, limits: IngestSettings) -> NDArray[np.float32]:
        """Return a list of numbers as a vector."""
        if self.message.WhichOneof("value") != "array_value":
            raise not_a_list(self.plain())
        array = self.message.array_value
        check_length(len(array.values), limits)
        with np.errstate(over="ignore"):
            return _numbers(array).astype(np.float32)


def read(body: bytes) -> Iterator[Span]:
    """Read the spans of a request.

    Raises
    ------
    PayloadError
        If the body is not an ExportTraceServiceRequest.
    BodyTooLarge
        If it has too many spans, or parts between them.
    """
    try:
        _check_count(memoryview(body))
        request = _decoded(body)
    except DecodeError as error:
        raise PayloadError("the body is not an ExportTraceServiceRequest in protobuf") from error
    for of_resource in request.resource_spans:
        resource = _attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield Span(
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.end_time_unix_nano,
                    _attributes(span.attributes),
                    resource,
                    span.dropped_attributes_count,
                )


def _decoded(body: bytes) -> ExportTraceServiceRequest:
    try:
        return ExportTraceServiceRequest.FromString(body)
    except DecodeError:
        return ExportTraceServiceRequest.FromString(_mended(body))


def _mended(body: bytes) -> bytes:
    """Return a request with a question mark for each byte of a text that is not UTF-8.

    Some programs cut texts within a character, and the Collector passes them on. One such text must
    not cost a whole request.
    """
    mended = bytearray(body)
    for field, part in _all_fields(memoryview(mended), _may_hold_text):
        if field.type == FieldDescriptor.TYPE_STRING:
            text = bytes(part).decode(errors="surrogateescape")
            part[:] = text.encode(errors="replace")
    return bytes(mended)


def _may_hold_text(kind: Descriptor, message: memoryview) -> bool:
    # Vectors are most of a request, and each of their elements has two fields.
    return kind != ArrayValue.DESCRIPTOR or _NUMBERS.fullmatch(message) is None


def _is_no_attribute(kind: Descriptor, _: memoryview) -> bool:
    return kind != KeyValue.DESCRIPTOR


def _check_count(body: memoryview) -> None:
    """Check how many spans and other fields there are, before all of them are decoded.

    Raises
    ------
    BodyTooLarge
        If there are too many on a level, or in all.
    DecodeError
        If the body is not in the encoding of Protocol Buffers.
    """
    level = [body]
    for number in _TO_SPANS:
        below, count = [], 0
        for message in level:
            for found, part in _fields(message):
                count += 1
                if count > MOST_SPANS:
                    raise too_many()
                if found == number:
                    below.append(part)
        level = below
    if len(body) > _FEW_BYTES:
        # Attributes, events, links and others.
        for _ in _all_fields(body, _is_no_attribute):
            pass


def _all_fields(
    body: memoryview, enters: Callable[[Descriptor, memoryview], bool]
) -> Iterator[tuple[FieldDescriptor, memoryview]]:
    """Yield type and content of each known field of a request, and of the messages that it enters.

    Raises
    ------
    BodyTooLarge
        If there are too many, with the unknown ones.
    DecodeError
        If the body is not in the encoding of Protocol Buffers.
    """
    messages, count = [(_fields(body), _REQUEST)], 0
    while messages:
        fields, kind = messages[-1]
        for number, part in fields:
            count += 1
            if count > _MOST_FIELDS:
                raise BodyTooLarge(
                    f"the request has more than {_MOST_FIELDS} attributes and other fields; send"
                    " fewer at a time"
                )
            field = kind.fields_by_number.get(number)
            if field is None:
                continue
            yield field, part
            below = field.message_type
            if below is not None and enters(below, part):
                messages.append((_fields(part), below))
                break
        else:
            messages.pop()
        if len(messages) > _DEEPEST:
            raise DecodeError("messages are too deep in each other")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and content of each field; the content is empty unless it has a length."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        size = 0
        match key & 7:
            case 0:
                _, at = _varint(message, at)
            case 1 | 5 as kind:
                at += 8 if kind == 1 else 4
            case 2:
                size, at = _varint(message, at)
            case kind:
                raise DecodeError(f"wire type {kind}")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < _VARINT_BITS:
        value |= (message[at] & 127) << shift
        at += 1
        if message[at - 1] < 128:
            return value, at
        shift += 7
    raise DecodeError("a number has no end")


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Value]:
    return {pair.key: Value(pair.value) for pair in pairs}


def _numbers(array: ArrayValue) -> NDArray[np.float64]:
    # Written out again, doubles can be read at once. An object for each would take five times as
    # long.
    wire = array.SerializeToString()
    if len(wire) == _DOUBLE.itemsize * len(array.values):
        elements = np.frombuffer(wire, _DOUBLE)
        if (elements["start"] == _START).all():
            return np.asarray(elements["value"])
    return np.array([_number(element, at) for at, element in enumerate(array.values)], np.float64)


def _number(element: AnyValue, at: int) -> float:
    kind = element.WhichOneof("value")
    if kind == "double_value":
        return element.double_value
    if kind == "int_value":
        return element.int_value
    raise not_a_number(_plain(element), at)


def _plain(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    match kind:
        case None:
            return None
        case "array_value":
            return [_plain(element) for element in value.array_value.values]
        case "kvlist_value":
            return {pair.key: _plain(pair.value) for pair in value.kvlist_value.values}
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case _:
            scalar: object = getattr(value, kind)
            return scalar
