"""Vectors in spans: what becomes a batch, and why a span is refused."""

from __future__ import annotations

from itertools import repeat
from typing import Any

import msgspec
import numpy as np
import pytest

from ingest.formats import checks
from ingest.otlp import json, openinference, protobuf
from ingest.otlp.openinference import Export
from ingest.otlp.spans import Span
from ingest.runtime.errors import BodyTooLarge, NonFinite
from ingest.runtime.settings.settings import IngestSettings
from tests.ingest.otlp.exports import END, SPAN, TRACE, embeddings, export, in_json, span

NOW = END / 1e9 + 60
LIMITS = IngestSettings(max_dimension=4, max_batch_vectors=6, max_metadata_bytes=200)
ID = f"{TRACE.hex()}-{SPAN.hex()}"
A, B = [0.5, 1.0, -2.0], [1.0, 0.0, 0.0]


def read(
    *spans: Any, limits: IngestSettings = LIMITS, resource: dict[str, Any] | None = None
) -> Export:
    request = export(*spans, resource=resource)
    return openinference.read(protobuf.read(request.SerializeToString()), limits, NOW)


def refusal(*spans: Any, **others: Any) -> str:
    """Return why the only span is refused."""
    found = read(*spans, **others)
    assert found.batches == []
    [error] = found.refused
    return error.detail


def metadata(found: Export) -> list[Any]:
    [(batch, _)] = found.batches
    return [None if item is None else msgspec.json.decode(item) for item in batch.metadata or ()]


def test_a_span_becomes_vectors_with_ids_times_and_texts() -> None:
    [(batch, spans)] = read(span(embeddings([A, B], ["one", "two"]))).batches
    assert (batch.model_name, spans) == ("m", 1)
    np.testing.assert_array_equal(batch.vectors, np.array([A, B], np.float32))
    assert batch.ids == [f"{ID}-0", f"{ID}-1"]
    assert batch.timestamps == [END / 1e9] * 2
    assert batch.metadata == [b'{"text":"one"}', b'{"text":"two"}']


def test_numbers_may_have_gaps_and_texts_may_be_missing() -> None:
    attributes = {
        "embedding.model_name": "m",
        "embedding.embeddings.7.embedding.vector": A,
        "embedding.embeddings.2.embedding.text": "its vector was dropped",
        "embedding.embeddings.10.embedding.vector": B,
    }
    [(batch, _)] = read(span(attributes)).batches
    assert batch.ids == [f"{ID}-7", f"{ID}-10"]
    assert batch.metadata == [None, None]


def test_vectors_are_grouped_by_model_and_dimension() -> None:
    found = read(
        span(embeddings([A]), 0),
        span(embeddings([A], model_name="n"), 1),
        span(embeddings([[1.0]]), 2),
        span(embeddings([B]), 3),
    )
    groups = {(batch.model_name, batch.dimension): (len(batch), n) for batch, n in found.batches}
    assert groups == {("m", 3): (2, 2), ("n", 3): (1, 1), ("m", 1): (1, 1)}
    assert found.spans == 4


def test_spans_without_vectors_are_counted() -> None:
    hidden = "__REDACTED__"
    found = read(
        span({"openinference.span.kind": "LLM", "llm.model_name": "gpt"}),
        span(embeddings([], ["failed before the answer"]), 1),
        span(embeddings([hidden], ["a"]), 2),
        span({"embedding.embeddings.x.embedding.vector": A}, 3),
    )
    assert (found.without_vectors, found.batches, found.refused) == (4, [], [])


def test_chosen_attributes_are_metadata_and_the_span_precedes_the_resource() -> None:
    limits = IngestSettings(trace_attributes=["service.name", "session.id", "tags", "nobody"])
    resource = {"service.name": "search", "session.id": "of the resource", "host.name": "h"}
    others: dict[str, Any] = {"session.id": "s", "tags": ["x", 1], "user.id": "u"}
    attributes = embeddings([A], **others)
    found = read(span(attributes), limits=limits, resource=resource)
    assert metadata(found) == [{"service.name": "search", "session.id": "s", "tags": ["x", 1]}]


@pytest.mark.parametrize("text", ["__REDACTED__", "", 5, None])
def test_a_text_that_is_hidden_empty_or_none_is_left_out(text: Any) -> None:
    assert metadata(read(span(embeddings([A], [text])))) == [None]


def test_a_long_text_is_cut_to_what_metadata_may_take() -> None:
    texts = ["é" * 1_000, '"' * 150, "short"]
    found = metadata(read(span(embeddings([A, B, A], texts)), resource={"service.name": "s"}))
    for item, text in zip(found, texts, strict=True):
        assert item["service.name"] == "s"
        assert item["text"]
        assert text.startswith(item["text"])
        assert len(msgspec.json.encode(item)) <= LIMITS.max_metadata_bytes
    assert found[2]["text"] == "short"


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_a_nul_in_texts_and_attributes_is_replaced(encoding: str) -> None:
    """Texts that come from PDF files have them, and PostgreSQL cannot store them."""
    nul: dict[str, Any] = {"session.id": "x\0", "tags": {"k\0": ["\0\0", "\\u0000"]}}
    request = export(span(embeddings([A, B], ["a\0b\\\0", "whole"], **nul)))
    limits = IngestSettings(trace_attributes=["session.id", "tags"])
    spans = (
        protobuf.read(request.SerializeToString())
        if encoding == "protobuf"
        else json.read(in_json(request))
    )
    found = openinference.read(spans, limits, NOW)
    assert found.refused == []
    attributes = {
        "session.id": "x\ufffd",
        "tags": {"k\ufffd": ["\ufffd\ufffd", "\\u0000"]},
    }
    assert metadata(found) == [
        {**attributes, "text": "a\ufffdb\\\ufffd"},
        {**attributes, "text": "whole"},
    ]


def test_attributes_that_cannot_be_stored_are_left_out() -> None:
    limits = IngestSettings(
        max_metadata_bytes=200, trace_attributes=["a", "long", "written out", "b", "c"]
    )
    attributes: dict[str, Any] = {"a": 1, "b": "x" * 150, "c": "y" * 50}
    attributes |= {"long": "x" * 300, "written out": 1e308}
    request = export(span(embeddings([A], ["text"], **attributes)))
    assert metadata(openinference.read(json.read(in_json(request)), limits, NOW)) == [
        {"a": 1, "b": "x" * 150, "text": "text"}
    ]


def test_an_attribute_far_too_long_is_left_out_before_it_is_rewritten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To replace each of its characters, for each span, would take the time of a whole body."""
    rewritten: list[int] = []
    replaced = checks.without_nul

    def counted(encoded: bytes) -> bytes:
        rewritten.append(len(encoded))
        return replaced(encoded)

    monkeypatch.setattr(checks, "without_nul", counted)
    limits = IngestSettings(max_metadata_bytes=200, trace_attributes=["long"])
    found = read(span(embeddings([A], ["text"], long="\0" * 10_000)), limits=limits)
    assert metadata(found) == [{"text": "text"}]
    assert max(rewritten) <= 200


def test_an_attribute_that_cannot_be_decoded_is_left_out() -> None:
    session: dict[str, Any] = {"session.id": 12345}
    written = in_json(export(span(embeddings([A], **session))))
    too_long = written.replace(b'"12345"', b"9" * 30)
    assert too_long != written
    found = openinference.read(json.read(too_long), LIMITS, NOW)
    assert (found.refused, metadata(found)) == ([], [None])


def test_a_text_is_cut_to_what_is_left_beside_numbers_written_out() -> None:
    """1e100 takes 5 bytes as it is sent and 101 as it is stored."""
    limits = IngestSettings(max_metadata_bytes=200, trace_attributes=["n"])
    [found] = metadata(read(span(embeddings([A], ["x" * 150], n=1e100)), limits=limits))
    assert found == {"n": 1e100, "text": "x" * 75}


def test_a_span_without_an_end_has_no_time() -> None:
    [(batch, _)] = read(span(embeddings([A]), end_time_unix_nano=0)).batches
    assert batch.timestamps == [None]


@pytest.mark.parametrize(
    ("attributes", "fields", "reason"),
    [
        (embeddings([A], model_name=None), {}, "has vectors, but no text embedding.model_name"),
        (embeddings([A], model_name="no spaces"), {}, "'no spaces' is not allowed"),
        (embeddings([A, "AAAA"]), {}, "embeddings.1.embedding.vector: is a string"),
        (embeddings([A, [1.0]]), {}, "has dimension 1, those before it 3"),
        (embeddings([[1.0] * 5]), {}, "dimension 5 exceeds the 4 allowed"),
        (embeddings([A, [1.0, 1e39, 0.0]]), {}, "embeddings.1.embedding.vector: is NaN"),
        (embeddings([A]), {"trace_id": b""}, "its trace id must be 32 hexadecimal digits"),
        (embeddings([A]), {"span_id": bytes(8)}, "its span id must be 16 hexadecimal digits"),
        (
            embeddings([A]),
            {"end_time_unix_nano": 2 * END},
            "its end 3400000001.0 is 19,675.9 days",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_span_that_cannot_be_stored_is_refused_with_the_place(
    attributes: dict[str, Any], fields: dict[str, Any], reason: str
) -> None:
    detail = refusal(span(attributes, **fields))
    assert detail.startswith("span ")
    assert reason in detail


def test_a_refused_span_leaves_others_alone_and_is_no_part_of_them() -> None:
    found = read(span(embeddings([A])), span(embeddings([B, [float("nan")] * 3]), 1))
    [(batch, spans)] = found.batches
    assert (batch.vectors.tolist(), spans) == ([A], 1)
    [error] = found.refused
    assert isinstance(error, NonFinite)
    assert found.spans == 2


def test_a_span_whose_end_is_no_time_is_refused_alone() -> None:
    written = in_json(export(span(embeddings([A])), span(embeddings([B]), 1)))
    spoilt = written.replace(f'"{END}"'.encode(), b'"soon"', 1)
    found = openinference.read(json.read(spoilt), LIMITS, NOW)
    [(batch, spans)] = found.batches
    assert (batch.vectors.tolist(), spans) == ([B], 1)
    [error] = found.refused
    assert error.detail.startswith(f"span {ID}: its endTimeUnixNano is 'soon'; it must be")


def test_every_wrong_vector_of_a_span_is_named() -> None:
    [error] = read(span(embeddings(["x", A, 5]))).refused
    assert [place.pointer.split()[-1] for place in error.problems] == [
        "embedding.embeddings.0.embedding.vector",
        "embedding.embeddings.2.embedding.vector",
    ]


def test_vectors_of_all_spans_together_are_limited() -> None:
    spans = [span(embeddings([A, B]), number) for number in range(4)]
    assert read(*spans[:3]).spans == 3
    with pytest.raises(BodyTooLarge, match=r"ingest\.max_batch_vectors"):
        read(*spans)


def test_spans_with_vectors_that_lack_attributes_are_counted() -> None:
    cut = {"dropped_attributes_count": 9}
    spans = span(embeddings([A]), **cut), span({}, 1, **cut), span(embeddings([A]), 2)
    assert read(*spans).cut == 1


def test_a_request_has_a_limited_number_of_spans() -> None:
    empty = Span("", "", 0, {}, {}, 0)
    assert openinference.read(repeat(empty, 65_536), LIMITS, NOW).without_vectors == 65_536
    with pytest.raises(BodyTooLarge, match="more than 65536 spans; send fewer"):
        openinference.read(repeat(empty), LIMITS, NOW)
