"""Answers, as the OTLP specification says."""

from __future__ import annotations

import json

from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from ingest.otlp import answers
from ingest.runtime.errors import PayloadError, Problem, StoreUnavailable

WRONG = PayloadError("span a: is wrong", [Problem("span a", "is wrong")])


def test_full_success_leaves_partial_success_unset() -> None:
    response = answers.accepted([], 0)
    assert not response.HasField("partial_success")
    assert answers.encode(response, answers.PROTOBUF) == b""
    assert answers.encode(response, answers.JSON) == b"{}"


def test_partial_success_counts_spans_and_says_why() -> None:
    response = answers.accepted([WRONG, WRONG], 0)
    message = "span a: is wrong; in all, 2 spans are refused"
    assert json.loads(answers.encode(response, answers.JSON)) == {
        "partialSuccess": {"rejectedSpans": "2", "errorMessage": message}
    }
    read = ExportTraceServiceResponse.FromString(answers.encode(response, answers.PROTOBUF))
    assert read.partial_success.rejected_spans == 2
    assert read.partial_success.error_message == message
    assert answers.accepted([WRONG], 0).partial_success.error_message == "span a: is wrong"


def test_a_warning_is_a_partial_success_without_refused_spans() -> None:
    partial = answers.accepted([], 2).partial_success
    assert partial.rejected_spans == 0
    assert partial.error_message.startswith("2 spans with vectors lack attributes")
    both = answers.accepted([WRONG], 2).partial_success
    assert both.rejected_spans == 1
    assert both.error_message.startswith("span a: is wrong; 2 spans with vectors lack attributes")


def test_a_failure_is_a_status_with_the_places_of_bad_data() -> None:
    status = Status.FromString(answers.encode(answers.failed(WRONG), answers.PROTOBUF))
    assert (status.message, status.code) == ("span a: is wrong", 0)
    bad = BadRequest()
    assert status.details[0].Unpack(bad)
    assert [(v.field, v.description) for v in bad.field_violations] == [("span a", "is wrong")]
    assert json.loads(answers.encode(answers.failed(WRONG), answers.JSON)) == {
        "message": "span a: is wrong",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{"field": "span a", "description": "is wrong"}],
            }
        ],
    }


def test_a_failure_of_the_service_has_no_places() -> None:
    assert not answers.failed(StoreUnavailable("no answer")).details
