"""The contract of a format: each one that is registered keeps it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from ingest.formats.registry import FORMATS
from ingest.runtime.errors import (
    BodyTooLarge,
    NonFinite,
    PayloadError,
    Problem,
)
from ingest.store.batch import Batch
from tests.ingest.formats.bodies import (
    NOW,
    ROWS,
    arrow_stream,
    b64,
    npy,
    npy_header,
    one,
    parquet_file,
    read,
    several,
    table_of,
)

Encoder = Callable[[NDArray[np.float32], str], tuple[bytes, dict[str, Any]]]
"""Makes a body of vectors for a model, and what else the request has."""


def as_json(vectors: NDArray[np.float32], model_name: str) -> tuple[bytes, dict[str, Any]]:
    body = {"model_name": model_name, "embeddings": vectors.tolist()}
    return json.dumps(body).encode(), {}


def as_raw(vectors: NDArray[np.float32], model_name: str) -> tuple[bytes, dict[str, Any]]:
    shape = {"x_dimension": str(vectors.shape[1]), "x_dtype": "float32"}
    headers = {"x_model_name": model_name, **shape}
    return vectors.astype("<f4").tobytes(), headers


def as_npy(vectors: NDArray[np.float32], model_name: str) -> tuple[bytes, dict[str, Any]]:
    return npy(vectors), {"x_model_name": model_name}


def as_stream(vectors: NDArray[np.float32], model_name: str) -> tuple[bytes, dict[str, Any]]:
    return arrow_stream(table_of(vectors)), {"x_model_name": model_name}


def as_parquet(vectors: NDArray[np.float32], model_name: str) -> tuple[bytes, dict[str, Any]]:
    return parquet_file(table_of(vectors)), {"x_model_name": model_name}


ENCODERS: dict[str, Encoder] = {
    "application/json": as_json,
    "application/octet-stream": as_raw,
    "application/x-npy": as_npy,
    "application/vnd.apache.arrow.stream": as_stream,
    "application/vnd.apache.parquet": as_parquet,
}
"""A new format needs a line here."""


def sent(content_type: str, vectors: NDArray[np.float32], model_name: str = "m") -> Batch:
    body, others = ENCODERS[content_type](vectors, model_name)
    return read(body, content_type, **others)


every_format = pytest.mark.parametrize("content_type", FORMATS)


def test_each_format_has_an_encoder_here() -> None:
    assert set(ENCODERS) == set(FORMATS)


@every_format
def test_a_batch_has_the_model_and_the_vectors_that_were_sent(content_type: str) -> None:
    batch = sent(content_type, ROWS, "text/model:1")
    assert batch.model_name == "text/model:1"
    assert batch.vectors.tolist() == ROWS.tolist()
    assert batch.vectors.dtype == np.float32
    assert (batch.ids, batch.metadata, batch.timestamps) == (None, None, None)


@every_format
def test_an_empty_body_is_refused(content_type: str) -> None:
    _, others = ENCODERS[content_type](ROWS, "m")
    with pytest.raises(PayloadError):
        read(b"", content_type, **others)


@every_format
def test_a_batch_without_vectors_is_refused(content_type: str) -> None:
    with pytest.raises(PayloadError, match="the batch is empty; it needs at least one vector"):
        sent(content_type, np.empty((0, 3), np.float32))


@every_format
@pytest.mark.parametrize("missing", [1, 2, 3, 13])
def test_a_truncated_body_is_refused(content_type: str, missing: int) -> None:
    body, others = ENCODERS[content_type](ROWS, "m")
    with pytest.raises(PayloadError, match=r"truncated|not valid JSON"):
        read(body[:-missing], content_type, **others)


@every_format
def test_too_many_vectors_are_refused_with_the_number_allowed(content_type: str) -> None:
    assert len(sent(content_type, np.ones((5, 2), np.float32))) == 5
    with pytest.raises(BodyTooLarge, match=r"6 vectors; at most 5 .*ingest\.max_batch_vectors"):
        sent(content_type, np.ones((6, 2), np.float32))


@every_format
def test_too_large_a_dimension_is_refused_with_the_dimension_allowed(content_type: str) -> None:
    assert sent(content_type, np.ones((1, 8), np.float32)).dimension == 8
    with pytest.raises(PayloadError, match=r"dimension 9 exceeds the 8 .*ingest\.max_dimension"):
        sent(content_type, np.ones((1, 9), np.float32))


@every_format
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_component_that_is_not_finite_is_named(content_type: str, value: float) -> None:
    vectors = np.ones((3, 2), np.float32)
    vectors[1, 1] = value
    with pytest.raises(NonFinite) as refused:
        sent(content_type, vectors)
    [problem] = refused.value.problems
    assert (problem.pointer, problem.index) == ("/embeddings/1/1", 1)
    assert "components must be finite" in problem.reason


@every_format
@pytest.mark.parametrize("name", ["", "a b", "m" * 129, "x" * 100_000, "../m", "m\u200b"])
def test_an_illegal_name_is_refused_with_what_is_allowed(content_type: str, name: str) -> None:
    with pytest.raises(PayloadError, match="1 to 128 printable characters") as refused:
        sent(content_type, ROWS, name)
    assert "odel" in refused.value.problems[0].pointer
    assert len(refused.value.detail) < 500


finite_vectors = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 8)),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


@every_format
@given(vectors=finite_vectors)
def test_vectors_are_kept_bit_for_bit(content_type: str, vectors: NDArray[np.float32]) -> None:
    assert sent(content_type, vectors).vectors.tobytes() == vectors.tobytes()


VALID = [
    json.dumps(one(id="a", metadata={"text": "x", "timestamp": 1})).encode(),
    json.dumps(
        several(ids=["a", None], metadata=[{"timestamp": "2023-12-31T00:00:00Z"}, None])
    ).encode(),
    json.dumps(several() | {"embeddings": [b64([1, 2]), b64([3, 4])]}).encode(),
    ROWS.tobytes(),
    npy(ROWS),
    npy(ROWS.astype(">f8", order="F")),
    arrow_stream(table_of(ROWS)),
    parquet_file(table_of(ROWS)),
]


NASTY = [
    b"NaN,",
    b"-Infinity",
    b"1e999",
    b"9" * 400,
    b"9" * 5_000,
    b"null",
    b"true",
    b"{}",
    b'"\\ud800"',
    b'"\\u0000"',
    b"[" * 995,
    b"[" * 9_000,
    b"(" * 300,
    b"(-1,)",
    b"PK\3\4",
    b"\xff",
]


@st.composite
def spliced(draw: st.DrawFn) -> bytes:
    """Valid bodies in which parts are replaced."""
    body = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(body)))
        end = min(len(body), start + draw(st.integers(0, 12)))
        body = body[:start] + draw(st.sampled_from(NASTY) | st.binary(max_size=8)) + body[end:]
    return body


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


named_bodies = st.fixed_dictionaries(
    {"model_name": st.just("m")},
    optional=dict.fromkeys(("embedding", "embeddings", "id", "ids", "x"), json_values)
    | {"metadata": json_values | st.dictionaries(st.sampled_from(["timestamp", "a"]), json_values)},
).map(lambda value: json.dumps(value).encode())


headers_of_npy = st.text(st.characters(max_codepoint=127), max_size=80).map(npy_header)


@pytest.mark.filterwarnings("default")  # numpy and Python warn of what a header contains
@given(
    body=spliced() | named_bodies | headers_of_npy | st.binary(max_size=200),
    content_type=st.sampled_from([*FORMATS]),
    dimension=st.sampled_from(["1", "3", "x", "\xb2", ""]),
)
def test_any_body_is_read_or_refused(body: bytes, content_type: str, dimension: str) -> None:
    refused: PayloadError | None = None
    try:
        batch = read(body, content_type, x_model_name="m", x_dimension=dimension)
    except PayloadError as error:
        refused = error
    if refused is not None:
        assert refused.detail
        assert all(isinstance(problem, Problem) for problem in refused.problems)
        return
    assert batch.vectors.dtype == np.float32
    assert batch.vectors.flags.c_contiguous
    assert np.isfinite(batch.vectors).all()
    for column in (batch.ids, batch.metadata, batch.timestamps):
        assert column is None or len(column) == len(batch)
    assert all(t is None or 0 <= t <= NOW + 86_400 for t in batch.timestamps or ())
