"""Errors as problem details."""

from __future__ import annotations

import json

import pytest

from ingest.runtime.errors import (
    BodyTooLarge,
    MonitorError,
    PayloadError,
    Problem,
    QueueFull,
    StoreUnavailable,
)
from ingest.runtime.http.problems import problem


def test_an_error_without_places_has_no_errors() -> None:
    answer = problem(BodyTooLarge("too long"))
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert json.loads(bytes(answer.body)) == {
        "type": "about:blank",
        "title": "Request too large",
        "status": 413,
        "detail": "too long",
    }


def test_places_have_an_index_only_if_they_belong_to_a_vector() -> None:
    places = [Problem("/embeddings/3/17", "is NaN", 3), Problem("Idempotency-Key", "is empty")]
    assert json.loads(bytes(problem(PayloadError("wrong", places)).body))["errors"] == [
        {"pointer": "/embeddings/3/17", "reason": "is NaN", "index": 3},
        {"pointer": "Idempotency-Key", "reason": "is empty"},
    ]


@pytest.mark.parametrize(
    ("error", "retries"),
    [(QueueFull("full"), True), (StoreUnavailable("away"), True), (PayloadError("no"), False)],
)
def test_only_temporary_errors_tell_when_to_retry(error: MonitorError, retries: bool) -> None:
    assert ("retry-after" in problem(error).headers) is retries
