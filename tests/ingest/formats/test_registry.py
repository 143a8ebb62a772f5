"""Reading a body by its content type, and what all formats share."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.runtime.errors import (
    BodyTooLarge,
    UnsupportedMediaType,
)
from ingest.runtime.settings.settings import IngestSettings
from tests.ingest.formats.bodies import (
    one,
    read,
    refusal,
)


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_parameters_and_case_of_the_content_type_do_not_matter(content_type: str) -> None:
    assert len(read(one(), content_type)) == 1


@pytest.mark.parametrize("content_type", ["", "text/csv", "application/xml"])
def test_the_error_of_an_unknown_content_type_lists_the_known_ones(content_type: str) -> None:
    with pytest.raises(
        UnsupportedMediaType,
        match=r"application/json, .*, application/x-npy, .* and application/vnd\.apache\.parquet$",
    ):
        read(one(), content_type)


def test_the_fingerprint_distinguishes_a_retry_from_another_body() -> None:
    first, again = (read(one(), idempotency_key="k").fingerprint for _ in range(2))
    other = read(one(id="x"), idempotency_key="k").fingerprint
    assert first == again != other
    assert len(first) == 32


def test_the_fingerprint_of_raw_rows_includes_their_dimension() -> None:
    def fingerprint(dimension: str) -> bytes:
        return read(
            bytes(24),
            "application/octet-stream",
            x_model_name="m",
            x_dimension=dimension,
            idempotency_key="k",
        ).fingerprint

    assert fingerprint("2") != fingerprint("3")


def test_a_body_beyond_the_limit_is_a_request_too_large() -> None:
    limits = IngestSettings(max_body_bytes=1_024)
    shape: dict[str, Any] = {"x_model_name": "m", "x_dimension": "1"}
    assert len(read(bytes(1_024), "application/octet-stream", limits=limits, **shape)) == 256
    with pytest.raises(BodyTooLarge, match="exceeds 1024 bytes"):
        read(bytes(1_028), "application/octet-stream", limits=limits, **shape)


def test_too_many_vectors_are_a_request_too_large() -> None:
    with pytest.raises(BodyTooLarge, match="6 vectors; at most 5"):
        read({"model_name": "m", "embeddings": [[1]] * 6})


def test_an_idempotency_key_is_visible_ascii() -> None:
    refused = refusal(one(), idempotency_key="a b")
    assert [problem.pointer for problem in refused.problems] == ["Idempotency-Key"]
    assert "visible ASCII" in refused.detail
