"""The ingest half's part of the OpenAPI description: ``/embeddings`` and ``/search``."""

from __future__ import annotations

from typing import Any, get_args

from ingest.http.search import MOST_MATCHES, Scope
from ingest.runtime.http.openapi import (
    COUNT,
    MODEL_NAME,
    MOMENT,
    RETRY_AFTER,
    Json,
    Part,
    answer,
    nullable,
    problem,
    record,
    schema,
)
from ingest.runtime.settings.settings import IngestSettings

_FLOAT32_END = 3.4028235677973366e38
"""The least number that rounds to infinity as float32."""

_SIX_BITS = "[A-Za-z0-9+/]"
# Four bytes a number: the padding goes round every three of them.
_BASE64 = f"^({_SIX_BITS}{{16}})*({_SIX_BITS}{{6}}==|{_SIX_BITS}{{11}}=|{_SIX_BITS}{{16}})$"

_IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A request sent twice with it is stored once, and gets the first answer again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
_REPLAYED: Json = {
    "Idempotency-Replayed": {
        "description": "Only there when the `Idempotency-Key` came before.",
        "schema": {"const": "true"},
    }
}
_BODY_PROBLEMS: Json = {
    "429": problem(
        "The requests under way hold as much memory as they may (`ingest.max_queue_bytes`), or too"
        " many passwords wait to be checked.",
        RETRY_AFTER,
    ),
    "408": problem("The body did not arrive within `server.read_timeout`."),
    "413": problem("The body has more bytes than `ingest.max_body_bytes`, or too many vectors."),
    "415": problem(
        "The content type is none of those above, or the body is compressed: `Content-Encoding` may"
        " be `identity` only, `Transfer-Encoding` `chunked`."
    ),
}


def _binary(description: str) -> Json:
    return {"type": "string", "format": "binary", "description": description}


_BODIES: Json = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"oneOf": [schema("EmbeddingRequest"), schema("EmbeddingsRequest")]}
        },
        "application/octet-stream": {
            "schema": _binary(
                "Little-endian float32, row after row. A body that begins as a `.npy` file"
                " is read as one."
            )
        },
        "application/x-npy": {
            "schema": _binary(
                "A `.npy` file, version 1.0 or 2.0: float16, float32 or float64 in one or"
                " two dimensions."
            )
        },
    },
}

_STORE_ANSWERS: Json = {
    "201": answer("The vectors are committed.", "application/json", schema("Stored"), _REPLAYED),
    "400": problem("The body, a header or a vector is wrong; nothing is stored."),
    "403": problem(
        "The credentials do not allow to write to this model; or it would be one model"
        " more than `ingest.max_models`."
    ),
    "409": problem("The model's vectors have another dimension."),
    "422": problem("The `Idempotency-Key` came with another body before."),
    "503": problem(
        "PostgreSQL does not answer. The commit may have happened all the same; with ids"
        " or an `Idempotency-Key` nothing is stored twice.",
        RETRY_AFTER,
    ),
    **_BODY_PROBLEMS,
}

_SEARCH: Json = {
    "operationId": "search",
    "summary": "Find the most similar stored vectors, by cosine",
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": schema("Search")}},
    },
    "responses": {
        "200": answer("The nearest, nearest first.", "application/json", schema("Found")),
        "400": problem("The body is wrong."),
        "404": problem("There is no such model or vector, or the model has no baseline yet."),
        "409": problem("The model's vectors have another dimension."),
        "503": problem("PostgreSQL does not answer.", RETRY_AFTER),
        **_BODY_PROBLEMS,
    },
}

_SCHEMAS: dict[str, Json] = {
    "Id": {
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": r"^[^\x00-\x1f\x7f-\x9f]+$",
        "description": "Yours: sent twice for the same model, its vector is stored once.",
    },
    "EmbeddingRequest": record(
        {
            "model_name": MODEL_NAME,
            "embedding": schema("Embedding"),
            "metadata": nullable(schema("Metadata")),
            "id": nullable(schema("Id")),
        },
        optional=["metadata", "id"],
        title="One vector",
        additionalProperties=False,
    ),
    "Stored": record(
        {
            "model_name": MODEL_NAME,
            "stored": COUNT | {"description": "Vectors stored now."},
            "duplicates": COUNT | {"description": "Vectors whose id was stored before."},
            "sampled_out": COUNT
            | {"description": "Vectors that `ingest.sample_ratio` leaves out."},
        }
    ),
    "Search": record(
        {
            "model_name": MODEL_NAME,
            "embedding": schema("Embedding"),
            "id": schema("Id"),
            "k": {"type": "integer", "minimum": 1, "maximum": MOST_MATCHES, "default": 10},
            "scope": schema("Scope") | {"default": "slow"},
        },
        optional=["embedding", "id", "k", "scope"],
        oneOf=[{"required": ["embedding"]}, {"required": ["id"]}],
        description=(
            "By a vector, which must not be all zeros, or by the id of a stored one; k is how"
            " many to find."
        ),
        additionalProperties=False,
    ),
    "Scope": {
        "enum": list(get_args(Scope)),
        "description": (
            "Among the newest vectors of a window's length, exactly; or in the baseline, by an"
            " HNSW index."
        ),
    },
    "Found": record(
        {
            "model_name": MODEL_NAME,
            "scope": schema("Scope"),
            "matches": {"type": "array", "items": schema("Match"), "maxItems": MOST_MATCHES},
        }
    ),
    "Match": record(
        {
            "seq": COUNT | {"description": "The vector's number within its model."},
            "id": nullable(schema("Id")),
            "received_at": MOMENT,
            "embedded_at": nullable(MOMENT),
            "metadata": nullable(schema("Metadata")),
            "similarity": {
                "type": ["number", "null"],
                "minimum": -1,
                "maximum": 1,
                "description": (
                    "Cosine similarity; null where a vector is all zeros, or so long that the"
                    " square of its length is beyond float32."
                ),
            },
        }
    ),
}


def part(limits: IngestSettings) -> Part:
    """Describe the half under the limits in force."""
    paths = {"/embeddings": {"post": _store(limits)}, "/search": {"post": _SEARCH}}
    return Part(paths, _schemas(limits))


def _store(limits: IngestSettings) -> Json:
    return {
        "operationId": "storeEmbeddings",
        "summary": "Store vectors",
        "description": (
            "The answer 201 means that the vectors are committed. A batch with one bad vector is"
            " rejected whole, and the problem names each bad vector by its index.\n\n"
            f"A request has at most {limits.max_body_bytes} bytes and {limits.max_batch_vectors}"
            f" vectors of at most {limits.max_dimension} components; all vectors of a model have"
            " the same dimension."
        ),
        "parameters": [_IDEMPOTENCY_KEY, *_binary_parameters(limits)],
        "requestBody": _BODIES,
        "responses": _STORE_ANSWERS,
    }


def _binary_parameters(limits: IngestSettings) -> list[Json]:
    dimension = {"type": "integer", "minimum": 1, "maximum": limits.max_dimension}
    return [
        _binary_only("X-Model-Name", "header", MODEL_NAME),
        _binary_only("X-Dimension", "header", dimension),
        _binary_only("model_name", "query", MODEL_NAME),
        _binary_only("dimension", "query", dimension),
    ]


def _binary_only(name: str, place: str, of: Json) -> Json:
    what = "The model" if "odel" in name else "The number of components of each vector"
    return {
        "name": name,
        "in": place,
        "description": f"{what}, for binary bodies (JSON ignores it); header and query"
        " parameter must agree.",
        "schema": of,
    }


def _schemas(limits: IngestSettings) -> dict[str, Json]:
    return _SCHEMAS | {
        "Embedding": _embedding(limits),
        "Metadata": _metadata(limits),
        "EmbeddingsRequest": _batch(limits),
    }


def _batch(limits: IngestSettings) -> Json:
    return record(
        {
            "model_name": MODEL_NAME,
            "embeddings": {
                "type": "array",
                "items": schema("Embedding"),
                "minItems": 1,
                "maxItems": limits.max_batch_vectors,
                "description": "All of one dimension.",
            },
            "metadata": nullable(
                {
                    "type": "array",
                    "items": nullable(schema("Metadata")),
                    "description": "One for each embedding.",
                }
            ),
            "ids": nullable(
                {
                    "type": "array",
                    "items": nullable(schema("Id")),
                    "description": (
                        "One for each embedding. An id that comes twice within a batch is an"
                        " error (400): only one of its vectors would be stored."
                    ),
                }
            ),
        },
        optional=["metadata", "ids"],
        title="A batch of vectors",
        additionalProperties=False,
    )


def _embedding(limits: IngestSettings) -> Json:
    component: dict[str, Any] = {
        "type": "number",
        "exclusiveMinimum": -_FLOAT32_END,
        "exclusiveMaximum": _FLOAT32_END,
    }
    return {
        "oneOf": [
            {
                "type": "array",
                "items": component,
                "minItems": 1,
                "maxItems": limits.max_dimension,
                "examples": [[0.1, 0.2, 0.3]],
            },
            {
                "type": "string",
                "contentEncoding": "base64",
                "pattern": _BASE64,
                "description": "Base64 of little-endian float32.",
                "examples": ["zczMPc3MTD6amZk+"],
            },
        ]
    }


def _metadata(limits: IngestSettings) -> Json:
    return {
        "type": "object",
        "properties": {
            "timestamp": {
                "oneOf": [{"type": "number", "minimum": 0}, MOMENT],
                "description": (
                    "When the vector was made: seconds since the epoch, or RFC 3339 with an"
                    " offset; at most a day ahead."
                ),
            }
        },
        "description": (
            f"Yours; at most {limits.max_metadata_bytes} bytes once encoded, without the character"
            " U+0000."
        ),
    }
