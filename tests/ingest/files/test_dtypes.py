"""Types of numbers in bytes, and bytes of another type than said."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from numpy.typing import NDArray

from ingest.files import dtypes
from tests.ingest.formats.bodies import RAW, b64, one, read, refusal, several

ROWS = np.array([[0.5, -1, 2, 8], [1, 3, 0.25, 4]])


def packed(vectors: NDArray[np.float64], name: str) -> bytes:
    """Write vectors as numbers of a type."""
    if name == "bfloat16":
        return (vectors.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    if name == "big-endian float32":
        return vectors.astype(">f4").tobytes()
    return vectors.astype(dtypes.DTYPES[name]).tobytes()


def scaled(vectors: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Quantise vectors if the type is of integers."""
    if name not in ("int8", "uint8"):
        return vectors
    steps: NDArray[np.float64] = np.round(vectors / np.abs(vectors).max() * 127)
    return steps if name == "int8" else steps + 128


every_type = pytest.mark.parametrize("name", dtypes.DTYPES)


@every_type
def test_rows_and_base64_may_be_of_every_type(name: str) -> None:
    vectors = np.abs(ROWS).round() if name == "uint8" else ROWS.round() if "int" in name else ROWS
    raw = read(packed(vectors, name), **RAW, x_dimension="4", x_dtype=name)
    assert raw.vectors.tolist() == vectors.tolist()
    encoded = [base64.b64encode(packed(row, name)).decode() for row in vectors]
    assert read(several(embeddings=encoded, dtype=name)).vectors.tolist() == vectors.tolist()
    assert read(one(embedding=encoded[0]), query={"dtype": name}).vectors.tolist() == [
        vectors[0].tolist()
    ]


def test_float64_beyond_float32_is_named() -> None:
    refused = refusal(np.array([1, 1e300]).tobytes(), **RAW, x_dimension="2", x_dtype="float64")
    assert refused.problems[0].pointer == "/embeddings/0/1"


def test_an_unknown_type_is_refused_with_those_that_are_allowed() -> None:
    told = refusal(bytes(8), **RAW, x_dimension="2", x_dtype="float8").detail
    assert told == (
        "X-Dtype: float8 is not allowed; allowed are float32, float16, bfloat16, float64, int8,"
        " uint8"
    )


@pytest.mark.parametrize("dimension", [256, 768])
@pytest.mark.parametrize("name", ["float16", "float64", "int8", "uint8", "big-endian float32"])
def test_bytes_of_another_type_are_refused_with_the_likely_one(name: str, dimension: int) -> None:
    rng = np.random.default_rng(dimension)
    vector = scaled(rng.normal(size=dimension) / np.sqrt(dimension), name)
    told = dtypes.doubt(packed(vector, name), None)
    assert told is not None
    assert f"it looks like {name}" in told


@pytest.mark.parametrize("name", ["float16", "float64"])
@pytest.mark.parametrize("other", ["float32", "big-endian float32"])
def test_a_type_that_was_named_is_doubted_too(name: str, other: str) -> None:
    vector = np.random.default_rng(0).normal(size=384)
    told = dtypes.doubt(packed(vector, other), name)
    assert told is not None
    assert f"as {name}; it looks like {other}" in told


def test_vectors_of_all_kinds_are_not_doubted() -> None:
    rng = np.random.default_rng(0)
    for dimension in (1, 2, 16, 768):
        normal = rng.normal(size=dimension)
        for vector in (
            normal,
            normal * 1e-9,
            normal * 1e9,
            np.maximum(normal, 0),
            normal > 1.5,
            np.zeros(dimension),
            np.ones(dimension),
            np.arange(dimension),
            normal.round(1),
            np.exp(20 * normal - 40),
            rng.dirichlet(np.full(dimension, 0.01)),
            normal.astype(np.float16),
        ):
            for name in ("float32", "float64"):
                code = None if name == "float32" else name
                assert dtypes.doubt(packed(np.asarray(vector, float), name), code) is None


def test_float32_is_not_doubted_if_it_was_named() -> None:
    half = np.random.default_rng(0).normal(size=8).astype("<f2").tobytes()
    body = {"model_name": "m", "embedding": base64.b64encode(half).decode()}
    assert refusal(body).problems[0].reason.startswith("has magnitudes of ")
    assert len(read(body | {"dtype": "float32"})) == 1
    assert "it looks like float16: set dtype to float16" in refusal(body).detail
    assert read(body | {"dtype": "float16"}).dimension == 8
    assert "it looks like float16" in refusal(half, **RAW, x_dimension="4").detail


def test_a_component_that_is_not_finite_is_no_other_type() -> None:
    refused = refusal(one(embedding=b64([1, np.nan])))
    assert refused.problems[0].pointer == "/embedding/1"
