"""Spans in JSON: what OTLP allows there. tests/ingest/otlp/test_spans.py has the rest."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from ingest.otlp import json
from ingest.otlp.spans import Span
from ingest.runtime.errors import PayloadError
from ingest.runtime.settings.settings import IngestSettings


def spans(*written: str, resource: str = "{}") -> list[Span]:
    one = f'{{"resource": {resource}, "scopeSpans": [{{"spans": [{", ".join(written)}]}}]}}'
    return list(json.read(f'{{"resourceSpans": [{one}]}}'.encode()))


def attribute(value: str) -> str:
    return f'{{"attributes": [{{"key": "a", "value": {value}}}]}}'


def test_unknown_fields_are_ignored_and_enumerations_are_numbers() -> None:
    [span] = spans('{"traceId": "AB", "kind": 3, "status": {"code": 2}, "future": [{}]}')
    assert span.trace_id == "ab"


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"resourceSpans": null}',
        b'{"resourceSpans": [{"scopeSpans": null}]}',
        b'{"resourceSpans": [{"resource": null, "scopeSpans": [{"spans": null}]}]}',
    ],
)
def test_absent_and_null_lists_are_empty(body: bytes) -> None:
    assert list(json.read(body)) == []


def test_integers_of_64_bits_are_numbers_or_texts() -> None:
    written = ('{"endTimeUnixNano": "1700000000000000001"}', '{"endTimeUnixNano": 5}')
    assert [span.end for span in spans(*written)] == [1_700_000_000_000_000_001, 5]
    [span] = spans(attribute('{"intValue": "12"}'))
    assert span.attributes["a"].plain() == 12


@pytest.mark.parametrize("end", ["x", "1_000", " 12 ", "-1", "18446744073709551616", "1" * 400])
def test_what_is_no_integer_of_64_bits_stays_a_text(end: str) -> None:
    [span] = spans(f'{{"endTimeUnixNano": "{end}"}}')
    assert span.end == end


@pytest.mark.parametrize("end", [-1, 2**64, 10**400])
def test_an_integer_beyond_64_bits_becomes_a_text(end: int) -> None:
    [span] = spans(f'{{"endTimeUnixNano": {end}}}')
    assert span.end == str(end)


@pytest.mark.parametrize("end", ["1.7e18", "1700000000000000000.0"])
def test_a_whole_number_may_be_written_as_any_number(end: str) -> None:
    [span] = spans(f'{{"endTimeUnixNano": {end}}}')
    assert span.end == 1_700_000_000_000_000_000


@pytest.mark.parametrize(
    ("written", "dropped"),
    [("null", 0), ("0", 0), ('"0"', 0), ('"3"', 3), ("3.0", 3), ('"many"', 1), ("-1", 1)],
)
def test_the_number_of_dropped_attributes_may_be_a_text(written: str, dropped: int) -> None:
    [span] = spans(f'{{"droppedAttributesCount": {written}}}')
    assert span.dropped == dropped


def test_a_component_that_is_no_number_is_named() -> None:
    values = ('{"intValue": "3"}', '{"doubleValue": "abc"}')
    [span] = spans(attribute(f'{{"arrayValue": {{"values": [{", ".join(values)}]}}}}'))
    with pytest.raises(ValueError, match="component 1 is a string; components must be numbers"):
        span.attributes["a"].vector(IngestSettings())


def test_numbers_of_a_vector_may_be_texts() -> None:
    values = ('{"intValue": "3"}', '{"doubleValue": "NaN"}', '{"doubleValue": "-Infinity"}')
    [span] = spans(attribute(f'{{"arrayValue": {{"values": [{", ".join(values)}]}}}}'))
    vector = span.attributes["a"].vector(IngestSettings())
    np.testing.assert_array_equal(vector, [3, np.nan, -np.inf])


def test_an_attribute_may_lack_its_value() -> None:
    [span] = spans('{"attributes": [{"key": "a"}, {"key": "b", "value": null}]}')
    assert [value.plain() for value in span.attributes.values()] == [None, None]


@pytest.mark.parametrize(
    "value",
    [
        '{"intValue": "many"}',
        '{"intValue": "9223372036854775808"}',
        f'{{"intValue": {"9" * 400}}}',
        '{"stringValue": 5}',
        "7",
        '{"doubleValue": "much"}',
        f'{{"arrayValue": {{"values": [{{"intValue": {"9" * 400}}}]}}}}',
    ],
)
def test_a_value_of_another_type_is_refused_when_it_is_asked_for(value: str) -> None:
    [span] = spans(attribute(value))
    with pytest.raises(ValueError, match=r"."):
        span.attributes["a"].plain()
    assert span.attributes["a"].text() is None
    with pytest.raises(ValueError, match=r"."):
        span.attributes["a"].vector(IngestSettings())


def test_a_value_nested_too_deep_is_refused() -> None:
    def nested(depth: int) -> str:
        return attribute('{"arrayValue": {"values": [' * depth + "{}" + "]}}" * depth)

    [span] = spans(nested(300))
    with pytest.raises(ValueError, match="nested"):
        span.attributes["a"].plain()
    with pytest.raises(PayloadError, match="nested"):
        spans(nested(30_000))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not an ExportTraceServiceRequest in JSON"),
        (b"[]", "not an ExportTraceServiceRequest in JSON"),
        (b'{"resourceSpans": [1]}', r"\$.resourceSpans\[0\]"),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": 1}]}]}]}', "traceId"),
        (b'{"resourceSpans": "\xff"}', "got `str`"),
        (b'{"resourceSpans": [{"resource": "\\ud800"}]}', "got `str`"),
        (b'{"resourceSpans": [{"scopeSpans": "\\ud800', "not an ExportTraceServiceRequest in JSON"),
    ],
)
def test_a_body_that_is_no_request_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(PayloadError, match=reason):
        list(json.read(body))


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (rb"a\ud83d", "a\ufffd"),
        (rb"\uD83Da", "\ufffda"),
        (rb"\ude00", "\ufffd"),
        (rb"\ude00\ud83d", "\ufffd\ufffd"),
        (rb"\ud83d\n", "\ufffd\n"),
        (rb"\ud83d\u0041", "\ufffdA"),
        (rb"\ud83d\ud83d\ude00\ude00", "\ufffd\U0001f600\ufffd"),
        (rb"\\ud83d \ud83d", "\\ud83d \ufffd"),
        (rb"\\ud83d\ude00", "\\ud83d\ufffd"),
        (rb"\\\ud83d\\", "\\\ufffd\\"),
        (b"a\xf0\x9f\x98", "a\ufffd"),
        (b"a\xf0\x9f\x98 \\ud83d", "a\ufffd \ufffd"),
    ],
)
def test_a_part_of_a_character_is_replaced_and_nothing_else(written: bytes, text: str) -> None:
    """JavaScript cuts texts within a surrogate pair, other languages within UTF-8."""
    value = b'{"stringValue": "' + written + b'"}'
    attributes = b'[{"key": "a", "value": ' + value + b'}, {"key": "b\\ud83d"}]'
    whole = b'{"traceId": "AB", "attributes": [{"key": "a", "value": {"stringValue": "\\\\"}}]}'
    spans = b'[{"attributes": ' + attributes + b"}, " + whole + b"]"
    cut, other = json.read(b'{"resourceSpans": [{"scopeSpans": [{"spans": ' + spans + b"}]}]}")
    assert cut.attributes["a"].text() == cut.attributes["a"].plain() == text
    assert "b\ufffd" in cut.attributes
    assert (other.trace_id, other.attributes["a"].text()) == ("ab", "\\")


def test_bytes_that_are_no_utf8_are_replaced_where_nothing_else_is_wrong() -> None:
    [span] = json.read(
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": ['
        b'{"key": "a", "value": {"stringValue": "x\xe2\x82"}}]}]}]}]}'
    )
    assert span.attributes["a"].text() == span.attributes["a"].plain() == "x\ufffd"


def test_errors_name_a_place_of_the_body() -> None:
    with pytest.raises(PayloadError, match=r"\(byte 48\)"):
        list(json.read(b'{"resourceSpans":[],"a":"' + rb"\\" * 10 + b'", oops}'))
    fault = r"JSON is malformed: invalid character; it is not UTF-8: invalid start .* \(byte 0\)$"
    with pytest.raises(PayloadError, match=fault):
        list(json.read('{"resourceSpans":[]}'.encode("utf-16")))
    with pytest.raises(PayloadError, match=r"JSON is malformed: object keys must be strings$"):
        list(json.read(rb'{"resourceSpans":[],"a":"\ud83d", oops}'))


def test_a_vector_far_too_long_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = msgspec.json.encode([{"doubleValue": 1.5}] * 20).decode()
    [span] = spans(attribute(f'{{"arrayValue": {{"values": {values}}}}}'))
    monkeypatch.setattr(json, "_VECTOR", None)
    with pytest.raises(ValueError, match="dimension 20 exceeds the 4 allowed"):
        span.attributes["a"].vector(IngestSettings(max_dimension=4))
