"""Spans are the same in both encodings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from ingest.otlp import json, protobuf
from ingest.otlp.spans import Attribute, Span
from ingest.runtime.settings.settings import IngestSettings
from tests.ingest.otlp.exports import END, SPAN, TRACE, export, in_json, span

LIMITS = IngestSettings(max_dimension=4)
Read = Callable[[Message], Iterator[Span]]


@pytest.fixture(params=["protobuf", "json"])
def read(request: pytest.FixtureRequest) -> Read:
    if request.param == "json":
        return lambda message: json.read(in_json(message))  # type: ignore[arg-type]
    return lambda message: protobuf.read(message.SerializeToString())


def attribute(read: Read, value: Any) -> Attribute:
    [found] = read(export(span({"a": value})))
    return found.attributes["a"]


def test_a_span_has_ids_end_attributes_and_resource(read: Read) -> None:
    first, second = read(
        export(
            span({"a": 1, "b": "x"}, dropped_attributes_count=3),
            span({}, 1, end_time_unix_nano=0),
            resource={"service.name": "search"},
        )
    )
    assert (first.trace_id, first.span_id) == (TRACE.hex(), SPAN.hex())
    assert (first.end, first.dropped) == (END, 3)
    assert {name: value.plain() for name, value in first.attributes.items()} == {"a": 1, "b": "x"}
    assert first.resource["service.name"].text() == "search"
    assert (second.end, second.dropped, second.attributes) == (0, 0, {})
    assert second.resource["service.name"].text() == "search"


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (None, None),
        ("text", "text"),
        ("", ""),
        (True, True),
        (False, False),
        (-(2**63), -(2**63)),
        (0, 0),
        (0.5, 0.5),
        (0.0, 0.0),
        (b"\x00\xff", "AP8="),
        ([1, "a", [], None], [1, "a", [], None]),
        ({"k": {"l": [True]}, "m": None}, {"k": {"l": [True]}, "m": None}),
    ],
    ids=repr,
)
def test_a_value_is_plain(read: Read, value: Any, plain: Any) -> None:
    found = attribute(read, value).plain()
    assert (found, type(found)) == (plain, type(plain))


def test_only_a_text_is_a_text(read: Read) -> None:
    assert attribute(read, "a").text() == "a"
    assert attribute(read, "").text() == ""
    others: list[Any] = [None, 1, [1.0], {}]
    assert [attribute(read, value).text() for value in others] == [None] * 4


@pytest.mark.parametrize(
    "numbers",
    [[0.5, -1.0, 2.0], [0.25, 1, 2**40], [3, 0, -1], [1e300, -1e300], [math.nan, math.inf], [7.0]],
    ids=repr,
)
def test_a_list_of_numbers_is_a_vector(read: Read, numbers: list[float]) -> None:
    vector = attribute(read, numbers).vector(LIMITS)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(vector, np.array(numbers).astype(np.float32))
    assert vector.dtype == np.float32


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], "is empty"),
        ([1.0] * 5, "dimension 5 exceeds the 4 allowed"),
        ([1.0] * 500, "dimension 500 exceeds the 4 allowed"),
        ("AAAA", "is a string; it must be a list of numbers"),
        (1.0, "is a number; it must"),
        ({}, "is an object; it must"),
        (None, "is null; it must"),
        ([1.0, "x"], "component 1 is a string"),
        ([True, 1.0], "component 0 is a boolean"),
        ([1.0, None], "component 1 is null"),
        ([[1.0]], "component 0 is a list"),
    ],
    ids=repr,
)
def test_anything_else_is_refused_with_the_reason(read: Read, value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        attribute(read, value).vector(LIMITS)


def test_deep_values_are_refused_rather_than_overflow(read: Read) -> None:
    value = AnyValue(int_value=1)
    for _ in range(30):
        outer = AnyValue()
        outer.array_value.values.append(value)
        value = outer
    assert str(attribute(read, value).plain()).count("[") == 30
