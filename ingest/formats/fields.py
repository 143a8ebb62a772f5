"""Types of JSON fields that hold vectors, their ids and their metadata.

These types only describe what is allowed, in OpenAPI. The checks of :mod:`ingest.formats` enforce
it, because their errors name each wrong vector.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Raw

from ingest.files.dtypes import DTYPES
from ingest.runtime.http.openapi import schema

Embedding = Annotated[Raw, Meta(extra_json_schema=schema("Embedding"))]
Embeddings = Annotated[Raw, Meta(extra_json_schema=schema("Embeddings"))]
Metadata = Annotated[dict[str, Any], Meta(extra_json_schema=schema("Metadata"))]
DTYPE = {"enum": list(DTYPES)}
"""The schema of the type of numbers in bytes."""
Dtype = Annotated[
    str,
    Meta(
        extra_json_schema=DTYPE,
        description="The type of the numbers in base64; float32 by default.",
    ),
]
VectorId = Annotated[
    str,
    Meta(
        extra_json_schema={
            "minLength": 1,
            "maxLength": 255,
            "pattern": r"^[^\x00-\x1f\x7f-\x9f]+$",
        },
        description="Identifies a vector of a model. The same vector sent again is a duplicate;"
        " another vector under the id is a revision, unless ingest.ids is once.",
    ),
]
