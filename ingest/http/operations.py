"""OpenAPI description of this half: ``/embeddings``, ``/canaries``, ``/search``, ``/v1/traces``.

JSON bodies are described by their Structs in :mod:`ingest.http.bodies`, other bodies by their
formats. This module describes the operations, and what depends on the current limits.
"""

from __future__ import annotations

from typing import Any

from ingest.formats import checks
from ingest.formats.fields import DTYPE
from ingest.formats.registry import FORMATS
from ingest.http import decompression, losses
from ingest.http.bodies import Found, Search, Stored, StoredCanaries
from ingest.http.canaries import MAX_CANARIES
from ingest.runtime.http.openapi import (
    CHALLENGES,
    MODEL_NAME,
    MOMENT,
    PRETTY,
    RETRY_AFTER,
    Description,
    Json,
    answer,
    problem,
    schema,
)
from ingest.runtime.settings.settings import IngestSettings
from ingest.store.canaries import ID_PREFIX

_FLOAT32_END = 3.4028235677973366e38
"""The smallest number that float32 rounds to infinity."""

_SIX_BITS = "[A-Za-z0-9+/]"
_BASE64 = f"^({_SIX_BITS}{{4}})*({_SIX_BITS}{{2}}==|{_SIX_BITS}{{3}}=|{_SIX_BITS}{{4}})$"

_AGREE = "Header and query parameter must agree."
_NAME = "The model. This name goes before that in the body"
_DIMENSION = "The dimension of the vectors, for binary bodies; JSON ignores it"
_DTYPE = (
    "The type of the numbers in raw bodies and in base64, which is float32 if none is named. Bytes"
    " and base64 in columns can only be float32"
)

_IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A request repeated with its key is stored once and gets the first answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
_CONTENT_ENCODING: Json = {
    "name": "Content-Encoding",
    "in": "header",
    "description": "How the body is compressed. The limits hold for what comes out, too.",
    "schema": {"enum": list(decompression.ENCODINGS)},
}
_CLIENT_LOST: Json = {
    "name": losses.HEADER,
    "in": "header",
    "description": (
        "Vectors that the client lost since its last report: dropped by its queue, and failed to be"
        " sent. They are counted if this request is stored, and once for an `Idempotency-Key`."
    ),
    "schema": {
        "type": "string",
        "pattern": losses.PATTERN,
        "examples": ["dropped=12, failed=3"],
    },
}
_REPLAYED: Json = {
    "Idempotency-Replayed": {
        "description": "Present only when the `Idempotency-Key` was used before.",
        "schema": {"const": "true"},
    }
}
_TOO_MUCH = (
    "The requests under way exceed `ingest.max_queue_bytes`, too many passwords wait to be checked,"
    " or clients read their answers too slowly."
)
_BODY_PROBLEMS: Json = {
    "429": problem(_TOO_MUCH, RETRY_AFTER),
    "408": problem("The body did not arrive within `server.read_timeout`."),
    "413": problem(
        "The body, decompressed or not, has more bytes than `ingest.max_body_bytes`, or there are"
        " too many vectors."
    ),
    "415": problem(
        "The content type, the `Content-Encoding` or the `Transfer-Encoding` is not supported."
    ),
}


_STORE_ANSWERS: Json = {
    "201": answer("The vectors are committed.", "application/json", schema(Stored), _REPLAYED),
    "400": problem("The body, a header or a vector is invalid; nothing is stored."),
    "403": problem(
        "The credentials do not allow writing to this model, or `ingest.max_models` is reached."
    ),
    "409": problem("The model's vectors have another dimension."),
    "422": problem("The `Idempotency-Key` was used before with another body."),
    "503": problem(
        "PostgreSQL does not answer. The vectors may be stored nevertheless. With an"
        " `Idempotency-Key`, a retry stores nothing twice. With ids it does not either, unless"
        " another vector came under an id meanwhile.",
        RETRY_AFTER,
    ),
    **_BODY_PROBLEMS,
}

_CANARIES: Json = {
    "operationId": "storeCanaries",
    "summary": "Measure whether the encoder still gives the same vectors for the same texts",
    "description": (
        "The vectors belong to fixed texts, which are embedded again and again. They are compared"
        " with the first set of the same name, its reference. They enter no window and no"
        " baseline.\n\n"
        f"A request has at most {MAX_CANARIES} vectors, of one set. Each has an id"
        " `canary:SET:TEXT`, where SET and TEXT are 1 to 64 letters, digits and `.`, `_`, `-`, and"
        " no metadata. A set always has the same ids."
    ),
    "parameters": [_IDEMPOTENCY_KEY, _CONTENT_ENCODING],
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": schema("EmbeddingsRequest")}},
    },
    "responses": {
        "201": answer(
            "The vectors are committed.", "application/json", schema(StoredCanaries), _REPLAYED
        ),
        "400": problem("The body, an id or a vector is invalid, or the reference has other ids."),
        "403": _STORE_ANSWERS["403"],
        "409": _STORE_ANSWERS["409"],
        "422": _STORE_ANSWERS["422"],
        "503": problem("PostgreSQL does not answer.", RETRY_AFTER),
        **_BODY_PROBLEMS,
    },
}

_BY_ONE_OF_THREE: list[Json] = [
    {"required": ["embedding"], "properties": {"id": {"type": "null"}, "seq": {"type": "null"}}},
    {
        "required": ["id"],
        "properties": {
            "id": {"type": ["string", "integer"]},
            "embedding": False,
            "seq": {"type": "null"},
        },
    },
    {
        "required": ["seq"],
        "properties": {"seq": {"type": "integer"}, "embedding": False, "id": {"type": "null"}},
    },
]

_SEARCH: Json = {
    "operationId": "search",
    "summary": "Find the most similar stored vectors, by cosine",
    "parameters": [_CONTENT_ENCODING, PRETTY],
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": schema(Search)}},
    },
    "responses": {
        "200": answer("The most similar vectors.", "application/json", schema(Found)),
        "400": problem("The body is invalid."),
        "404": problem("There is no such model or vector, or the model has no baseline yet."),
        "409": problem("The model's vectors have another dimension."),
        "503": problem("PostgreSQL does not answer.", RETRY_AFTER),
        **_BODY_PROBLEMS,
    },
}

_IN_PROTOBUF: Json = {"schema": {"type": "string", "format": "binary"}}
_STATUS: Json = {
    "type": "object",
    "required": ["message"],
    "properties": {"message": {"type": "string"}, "details": {"type": "array"}},
    "description": "A google.rpc.Status. For bad data, its details have a google.rpc.BadRequest.",
}
_PARTIAL_SUCCESS: Json = {
    "type": "object",
    "properties": {
        "partialSuccess": {
            "type": "object",
            "properties": {
                "rejectedSpans": {"type": "string", "pattern": "^[1-9][0-9]*$"},
                "errorMessage": {"type": "string"},
            },
            "required": ["errorMessage"],
        }
    },
    "additionalProperties": False,
    "description": (
        "An ExportTraceServiceResponse. It has `partialSuccess` only if spans were refused, or"
        " lack attributes that their SDK dropped."
    ),
}


def _in_both(when: str, of: Json, headers: Json | None = None) -> Json:
    """Describe one answer of OTLP, which has the encoding of the request."""
    described = answer(when, "application/json", of, headers)
    described["content"]["application/x-protobuf"] = _IN_PROTOBUF
    return described


def _status(when: str, headers: Json | None = None) -> Json:
    return _in_both(when, schema("Status"), headers)


_EXPORT: Json = {
    "operationId": "exportTraces",
    "summary": "Store the vectors of spans (OTLP/HTTP)",
    "description": (
        "An ExportTraceServiceRequest of OpenTelemetry. Spans that have the attributes"
        " `embedding.model_name` and `embedding.embeddings.N.embedding.vector` (OpenInference) are"
        " stored; spans without vectors are only counted. 200 means that the vectors are committed."
        " A span that cannot be stored is refused alone."
    ),
    "parameters": [_CONTENT_ENCODING],
    "requestBody": {
        "required": True,
        "content": {
            "application/x-protobuf": _IN_PROTOBUF,
            "application/json": {
                "schema": {
                    "type": "object",
                    "description": "OTLP/JSON: ids in hexadecimal, unknown fields are ignored.",
                }
            },
        },
    },
    "responses": {
        "200": _in_both("The vectors are committed.", schema("ExportTraceServiceResponse")),
        "400": _status("The body cannot be decoded, or every span is refused."),
        "401": _status("The credentials are missing or wrong.", CHALLENGES),
        "403": _status("The credentials do not allow writing, or `ingest.max_models` is reached."),
        "408": _status("The body did not arrive within `server.read_timeout`."),
        "413": _status(
            "The body, decompressed, has more bytes than `ingest.max_body_bytes`, or there are too"
            " many spans or vectors."
        ),
        "415": _status("The content type or the encoding is not supported."),
        "429": _status(_TOO_MUCH, RETRY_AFTER),
        "503": _status(
            "PostgreSQL does not answer. A retry stores nothing twice.",
            RETRY_AFTER,
        ),
    },
}


def description(limits: IngestSettings) -> Description:
    """Describe the half under the current limits."""
    found = searching(limits)
    return Description(
        {
            "/embeddings": {"post": _store(limits)},
            "/canaries": {"post": _CANARIES},
            "/v1/traces": {"post": _EXPORT},
            **found.paths,
        },
        structs=[
            Stored,
            StoredCanaries,
            *found.structs,
            *(struct for format_ in FORMATS.values() for struct in format_.structs),
        ],
        schemas={
            "Embeddings": {
                "type": "array",
                "items": schema("Embedding"),
                "minItems": 1,
                "maxItems": limits.max_batch_vectors,
                "description": "Vectors of one dimension.",
            },
            "ExportTraceServiceResponse": _PARTIAL_SUCCESS,
            "Status": _STATUS,
            **found.schemas,
        },
    )


def searching(limits: IngestSettings) -> Description:
    """Describe the search alone."""
    return Description(
        {"/search": {"post": _SEARCH}},
        structs=[Search, Found],
        schemas={
            "Embedding": _embedding(limits),
            "Metadata": _metadata(limits),
            "Search": {"oneOf": _BY_ONE_OF_THREE},
        },
    )


def _store(limits: IngestSettings) -> Json:
    return {
        "operationId": "storeEmbeddings",
        "summary": "Store vectors",
        "description": (
            "201 means that the vectors are committed. One invalid vector rejects the whole batch,"
            " and the problem names each invalid vector by its index.\n\n"
            f"A request has at most {limits.max_body_bytes} bytes and {limits.max_batch_vectors}"
            f" vectors of at most {limits.max_dimension} components; all vectors of a model have"
            f" the same dimension. No id may begin with `{ID_PREFIX}`."
        ),
        "parameters": [
            _CONTENT_ENCODING,
            _IDEMPOTENCY_KEY,
            _CLIENT_LOST,
            *_parameters(limits),
        ],
        "requestBody": {
            "required": True,
            "content": {name: {"schema": format_.schema} for name, format_ in FORMATS.items()},
        },
        "responses": _STORE_ANSWERS,
    }


def _parameters(limits: IngestSettings) -> list[Json]:
    dimension = {"type": "integer", "minimum": 1, "maximum": limits.max_dimension}
    return [
        {"name": name, "in": place, "description": f"{what}. {_AGREE}", "schema": of}
        for header, parameter, what, of in (
            ("X-Model-Name", "model_name", _NAME, MODEL_NAME),
            ("X-Dimension", "dimension", _DIMENSION, dimension),
            ("X-Dtype", "dtype", _DTYPE, DTYPE),
        )
        for name, place in ((header, "header"), (parameter, "query"))
    ]


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
                "description": "Base64 of little-endian numbers of `dtype`.",
                "examples": ["zczMPc3MTD6amZk+"],
            },
        ]
    }


def _metadata(limits: IngestSettings) -> Json:
    return {
        "type": "object",
        "properties": {
            "timestamp": {
                "oneOf": [{"type": "number", "minimum": 0}, MOMENT, {"type": "null"}],
                "description": (
                    "When the vector was computed: seconds since the epoch, or RFC 3339 with an"
                    " offset or Z. At most a day ahead of the service's clock. null means now."
                ),
            }
        },
        "description": (
            f"Any JSON object of at most {limits.max_metadata_bytes} bytes once encoded and"
            f" {checks.NESTING} levels of lists and objects, without the character U+0000."
            f" Numbers count without an exponent, and have at most {checks.DIGITS} digits."
        ),
    }
