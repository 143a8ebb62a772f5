"""Spans in protobuf: what is not a request. tests/ingest/otlp/test_spans.py has the rest."""

from __future__ import annotations

import numpy as np
import pytest

from ingest.otlp import protobuf
from ingest.runtime.errors import PayloadError
from ingest.runtime.settings.settings import IngestSettings
from tests.ingest.otlp.exports import any_value, export, span


@pytest.mark.parametrize("body", [b"\xff", b"{}", b"\x0a\xff\x01"])
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(PayloadError, match="not an ExportTraceServiceRequest in protobuf"):
        list(protobuf.read(body))


def test_no_spans_are_a_request() -> None:
    assert list(protobuf.read(b"")) == []
    assert list(protobuf.read(export().SerializeToString())) == []


def test_integers_as_long_as_doubles_are_read_as_integers() -> None:
    """An int64 of 8 bytes takes as many bytes as a double, so the length alone tells nothing."""
    long = 2**55
    wire = any_value([long]).array_value.SerializeToString()
    assert len(wire) == len(any_value([1.0]).array_value.SerializeToString())
    [found] = protobuf.read(export(span({"a": [long, 1.0]})).SerializeToString())
    vector = found.attributes["a"].vector(IngestSettings())
    np.testing.assert_array_equal(vector, np.array([long, 1], np.float32))
