"""What schemathesis cannot make of a schema alone: vectors as bytes."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import schemathesis
from hypothesis import strategies as st

from tests.ingest.formats.bodies import arrow_stream, parquet_file
from tests.ingest.otlp.exports import embeddings, export, span

DIMENSION = 3
"""Of the model that the service knows."""


def _vectors(*dtypes: str) -> st.SearchStrategy[np.ndarray]:
    shapes = st.tuples(st.integers(0, 3), st.sampled_from([DIMENSION, 1]))
    return st.builds(np.ones, shapes, st.sampled_from(dtypes))


def _npy(vectors: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, vectors)
    return file.getvalue()


def _traces(dimensions: list[int]) -> bytes:
    spans = [
        span(embeddings([[1.0] * dimension]), number) for number, dimension in enumerate(dimensions)
    ]
    return export(*spans).SerializeToString()


def _table(vectors: np.ndarray) -> pa.Table:
    return pa.table({"embedding": vectors.tolist()})


_ANYTHING = st.binary(max_size=50)

for content_type, write in (
    ("application/vnd.apache.arrow.stream", arrow_stream),
    ("application/vnd.apache.parquet", parquet_file),
):
    schemathesis.openapi.media_type(
        content_type, _vectors("<f4", "<f8", "<i8").map(_table).map(write) | _ANYTHING
    )

schemathesis.openapi.media_type(
    "application/octet-stream", _vectors("<f4").map(np.ndarray.tobytes) | _ANYTHING
)
schemathesis.openapi.media_type(
    "application/x-npy", _vectors("<f2", ">f4", "<f8", "<i8").map(_npy) | _ANYTHING
)
schemathesis.openapi.media_type(
    "application/x-protobuf",
    st.lists(st.integers(0, 3)).map(_traces) | _ANYTHING,
)
