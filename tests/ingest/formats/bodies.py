"""Request bodies in every format, right and wrong, and how tests read them."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from ingest.formats.registry import parse
from ingest.runtime.errors import PayloadError
from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch

NOW = 1_750_000_000.0


LIMITS = IngestSettings(max_batch_vectors=5, max_dimension=8, max_metadata_bytes=100)


ROWS = np.array([[0.5, -1, 2], [1, 2, 3]], dtype="<f4")


def read(
    body: object,
    content_type: str = "application/json",
    query: dict[str, str] | None = None,
    limits: IngestSettings = LIMITS,
    **headers: str,
) -> Batch:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named["content-type"] = content_type
    return parse(data, headers=named, query=query or {}, limits=limits, now=NOW)


def one(**fields: object) -> dict[str, object]:
    return {"model_name": "m", "embedding": [1.0, 2.0], **fields}


def several(**fields: object) -> dict[str, object]:
    return {"model_name": "m", "embeddings": [[1.0, 2.0], [3.0, 4.0]], **fields}


def b64(vector: object) -> str:
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()


def npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_header(text: str) -> bytes:
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode()


def table_of(vectors: NDArray[Any], **columns: Any) -> pa.Table:
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    return pa.table({"embedding": lists, **columns})


def arrow_stream(table: pa.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    with pa.ipc.new_stream(file, table.schema, **options) as writer:
        writer.write_table(table)
    return file.getvalue()


def parquet_file(table: pa.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    parquet.write_table(table, file, **options)
    return file.getvalue()


def refusal(body: object, **kwargs: Any) -> PayloadError:
    with pytest.raises(PayloadError) as raised:
        read(body, **kwargs)
    return raised.value


RAW: dict[str, Any] = {"content_type": "application/octet-stream", "x_model_name": "m"}


NPY: dict[str, Any] = {"content_type": "application/x-npy", "x_model_name": "m"}
