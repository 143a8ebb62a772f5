"""Spans in protobuf: what is not a request. tests/ingest/otlp/test_spans.py has the rest."""

from __future__ import annotations

import numpy as np
import pytest

from ingest.otlp import protobuf
from ingest.runtime.errors import BodyTooLarge, PayloadError
from ingest.runtime.settings.settings import IngestSettings
from tests.ingest.otlp.exports import any_value, export, span


@pytest.mark.parametrize("body", [b"\xff", b"{}", b"\x0a\xff\x01"])
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(PayloadError, match="not an ExportTraceServiceRequest in protobuf"):
        list(protobuf.read(body))


def test_no_spans_are_a_request() -> None:
    assert list(protobuf.read(b"")) == []
    assert list(protobuf.read(export().SerializeToString())) == []


@pytest.mark.parametrize(
    ("text", "bad", "read"),
    [
        ("cut emoji XYZ", b"cut emoji \xf0\x9f\x98", "cut emoji ???"),
        ("X", b"\xff", "?"),
        ("fine X \U0001f600", b"fine \xe9 \xf0\x9f\x98\x80", "fine ? \U0001f600"),
    ],
)
def test_a_text_that_is_not_utf8_costs_no_other_text_and_no_vector(
    text: str, bad: bytes, read: str
) -> None:
    """Some programs cut texts within a character, and the Collector passes them on."""
    nested = {"a": [{"b": text}], text: "key", "v": [0.5, -1.5]}
    body = export(span(nested), span({"whole": "\u00e4"})).SerializeToString()
    assert text.encode() in body
    cut, other = protobuf.read(body.replace(text.encode(), bad))
    assert cut.attributes["a"].plain() == [{"b": read}]
    assert cut.attributes[read].text() == "key"
    np.testing.assert_array_equal(cut.attributes["v"].vector(IngestSettings()), [0.5, -1.5])
    assert other.attributes["whole"].text() == "\u00e4"


def test_a_request_that_is_not_utf8_and_has_too_many_fields_is_refused() -> None:
    body = export(span({"a": "X"})).SerializeToString().replace(b"X", b"\xff")
    attributes = framed(1, framed(2, framed(2, framed(9, b"") * 1_100_000)))
    with pytest.raises(BodyTooLarge, match="more than 1048576 attributes and other fields"):
        list(protobuf.read(body + attributes))


@pytest.mark.parametrize("number", [0.5, 0, 7, -7, 2**40])
def test_a_text_that_is_not_utf8_costs_no_vectors_however_many_there_are(number: float) -> None:
    vectors = {str(at): [number, 0.25] * 2_048 for at in range(150)}
    body = export(span(vectors, name="X")).SerializeToString().replace(b"X", b"\xff", 1)
    [found] = protobuf.read(body)
    expected = np.tile(np.array([number, 0.25], np.float32), 2_048)
    for value in found.attributes.values():
        np.testing.assert_array_equal(value.vector(IngestSettings()), expected)


def test_a_text_among_numbers_is_replaced_if_it_is_not_utf8() -> None:
    body = export(span({"a": [0.5, 7, "X", 2**40, True]})).SerializeToString()
    [found] = protobuf.read(body.replace(b"X", b"\xff"))
    assert found.attributes["a"].plain() == [0.5, 7, "?", 2**40, True]


def framed(number: int, content: bytes) -> bytes:
    """Encode a field that has a length."""
    size, length = len(content), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


EMPTY_SPAN = framed(1, framed(2, framed(2, b"")))


@pytest.mark.parametrize("part", [b"\x0a\x00", EMPTY_SPAN, b"\x18\x00", b"\x2a\x00"])
def test_a_request_of_many_small_parts_is_refused_before_it_is_decoded(
    part: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protobuf, "ExportTraceServiceRequest", None)
    with pytest.raises(BodyTooLarge, match="more than 65536 spans"):
        list(protobuf.read(part * 70_000))


PLACES: dict[str, tuple[int, ...]] = {
    "attributes of the resource": (1, 1, 1),
    "entities of the resource": (1, 1, 3),
    "keys of an entity of the resource": (1, 1, 3, 3),
    "attributes of the scope": (1, 2, 1, 3),
    "attributes of a span": (1, 2, 2, 9),
    "events": (1, 2, 2, 11),
    "attributes of an event": (1, 2, 2, 11, 3),
    "links": (1, 2, 2, 13),
    "attributes of a link": (1, 2, 2, 13, 4),
}
"""Where many small parts may be: numbers of the fields, one in the other."""


@pytest.mark.parametrize("place", PLACES)
def test_many_small_parts_are_refused_wherever_they_are_before_they_are_decoded(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protobuf, "ExportTraceServiceRequest", None)
    *outer, last = PLACES[place]
    content = framed(last, b"") * 700_000
    for number in reversed(outer):
        content = framed(number, content)
    with pytest.raises(BodyTooLarge, match="more than 1048576 attributes and other fields"):
        list(protobuf.read(content * 4))


def test_a_long_request_of_long_vectors_is_read() -> None:
    vectors = [span({"a": [0.5] * 50_000}) for _ in range(10)]
    assert len(list(protobuf.read(export(*vectors).SerializeToString()))) == 10


def test_as_many_spans_as_an_exporter_sends_are_read() -> None:
    assert len(list(protobuf.read(EMPTY_SPAN * 8_192))) == 8_192


def test_integers_as_long_as_doubles_are_read_as_integers() -> None:
    """An int64 of 8 bytes takes as many bytes as a double, so the length alone tells nothing."""
    long = 2**55
    wire = any_value([long]).array_value.SerializeToString()
    assert len(wire) == len(any_value([1.0]).array_value.SerializeToString())
    [found] = protobuf.read(export(span({"a": [long, 1.0]})).SerializeToString())
    vector = found.attributes["a"].vector(IngestSettings())
    np.testing.assert_array_equal(vector, np.array([long, 1], np.float32))
