"""The OpenAPI description: what all processes share, and how its parts come together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ingest.runtime.auth import guard
from ingest.runtime.model_name import MAX_LENGTH, PATTERN
from ingest.runtime.version import __version__

Json = dict[str, Any]

NUMBER: Json = {"type": ["number", "null"], "description": "null where it is not finite."}
MOMENT: Json = {"type": "string", "format": "date-time"}
COUNT: Json = {"type": "integer", "minimum": 0}
MODEL_NAME: Json = {
    "type": "string",
    "maxLength": MAX_LENGTH,
    "pattern": f"^{PATTERN}$",
    "examples": ["sentence-transformer"],
}
RETRY_AFTER: Json = {
    "Retry-After": {
        "description": "Seconds to wait before sending the request again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    }
}


class Part(NamedTuple):
    """What one half of the service adds to the description.

    Attributes
    ----------
    paths : mapping of str to dict
        Operations by path and method.
    schemas : mapping of str to dict
        What operations refer to by :func:`schema`.
    """

    paths: Mapping[str, Json]
    schemas: Mapping[str, Json]


def schema(name: str) -> Json:
    """Refer to a schema of any part."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(properties: Json, optional: Iterable[str] = (), **more: object) -> Json:
    """Describe an object that has all these properties, but for the optional ones."""
    required = [name for name in properties if name not in set(optional)]
    return {"type": "object", "properties": properties, "required": required, **more}


def nullable(of: Json) -> Json:
    """Describe something that may be null."""
    return {"anyOf": [of, {"type": "null"}]}


def answer(
    description: str, media_type: str, of: Json | None = None, headers: Json | None = None
) -> Json:
    """Describe one answer; one without a schema is text."""
    content = {media_type: {"schema": of or {"type": "string"}}}
    return {"description": description, "content": content} | (
        {} if headers is None else {"headers": headers}
    )


def problem(when: str, headers: Json | None = None) -> Json:
    """Describe one answer that is an RFC 9457 problem."""
    return answer(when, "application/problem+json", schema("Problem"), headers)


def document(parts: Sequence[Part], schemes: Sequence[str]) -> Json:
    """Put the description together.

    Parameters
    ----------
    parts : sequence of Part
        One a half.
    schemes : sequence of str
        How the guard can be satisfied: names of `SECURITY_SCHEMES`; none when it lets everyone in.
    """
    parts = [*parts, _COMMON]
    return {
        "openapi": "3.1.0",
        "info": _INFO,
        "paths": {
            path: {
                method: _guarded(method, path, operation, schemes)
                for method, operation in operations.items()
            }
            for part in parts
            for path, operations in part.paths.items()
        },
        "components": {
            "schemas": {name: of for part in parts for name, of in part.schemas.items()},
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def _guarded(method: str, path: str, operation: Json, schemes: Sequence[str]) -> Json:
    """Add what the guard asks for, and its refusals."""
    if path in guard.OPEN:
        return operation | {"security": []}
    needed = guard.needed_scope(method.upper(), path)
    refusals = {
        "401": _UNAUTHORIZED,
        "403": problem(f"The credentials lack the scope {needed}."),
        "429": problem("Too many passwords wait to be checked.", RETRY_AFTER),
    }
    return operation | {
        # A user of basic authentication may do everything.
        "security": [{scheme: [needed] if scheme == "bearer" else []} for scheme in schemes],
        "responses": dict(sorted((refusals | operation["responses"]).items())),
    }


_INFO: Json = {
    "title": "Embedding Drift Monitor",
    "version": __version__,
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    "description": (
        "Stores embeddings and tells when their distribution drifts.\n\n"
        "Every error is an RFC 9457 problem. A path that is not here answers 404, another method"
        " of one that is here answers 405 and names those there are in `Allow`; HEAD goes where"
        " GET does."
    ),
}

SECURITY_SCHEMES: Json = {
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "A user of `server.web_config_file`, who may do everything.",
    },
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": (
            "A token of `server.tokens_file`. Its scopes are `metrics`, `drift`, `write`,"
            " `write:MODEL` and `admin`; each operation names the one it needs."
        ),
    },
}

_UNAUTHORIZED = problem(
    "The credentials are missing or wrong.",
    {
        "WWW-Authenticate": {
            "description": "What is asked for.",
            "required": True,
            "schema": {"type": "string"},
        }
    },
)

_PROBLEM = record(
    {
        "type": {"const": "about:blank"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What was wrong, and what is allowed."},
        "errors": {
            "type": "array",
            "minItems": 1,
            "description": "Each place that is wrong, as far as there are places; at most 100.",
            "items": record(
                {
                    "pointer": {
                        "type": "string",
                        "description": (
                            "JSON pointer (RFC 6901) into the body, empty for the whole of it; or"
                            " the name of a header, query parameter or setting."
                        ),
                        "examples": ["/embeddings/3/17", "", "Idempotency-Key"],
                    },
                    "reason": {"type": "string"},
                    "index": COUNT | {"description": "Which vector of the batch is wrong."},
                },
                optional=["index"],
            ),
        },
    },
    optional=["errors"],
    description="RFC 9457 problem details.",
)


def _reload(operation_id: str) -> Json:
    return {
        "operationId": operation_id,
        "summary": "Read the configuration anew",
        "responses": {
            "200": answer("The configuration is in force.", "text/plain"),
            "500": problem(
                "The configuration cannot be used, or changes what only a restart can; the old"
                " one stays in force. `errors` names the settings."
            ),
        },
    }


_COMMON = Part(
    {
        "/metrics": {
            "get": {
                "operationId": "metrics",
                "summary": "Metrics for Prometheus",
                "parameters": [
                    {
                        "name": "X-Prometheus-Scrape-Timeout-Seconds",
                        "in": "header",
                        "description": "Patience of whoever scrapes; no number means endless.",
                        "schema": {"type": "string"},
                    }
                ],
                "responses": {
                    "200": {
                        "description": (
                            "All metrics, compressed with gzip for those who accept that. `Accept`"
                            " decides on the format."
                        ),
                        "headers": {"Vary": {"required": True, "schema": {"type": "string"}}},
                        "content": {
                            "text/plain": {"schema": {"type": "string"}},
                            "application/openmetrics-text": {"schema": {"type": "string"}},
                        },
                    }
                },
            }
        },
        "/-/healthy": {
            "get": {
                "operationId": "healthy",
                "summary": "Whether the process answers",
                "responses": {"200": answer("It does.", "text/plain")},
            }
        },
        "/-/ready": {
            "get": {
                "operationId": "ready",
                "summary": "Whether requests can be served",
                "responses": {
                    "200": answer("They can.", "text/plain"),
                    "503": answer("They cannot; a line for each reason.", "text/plain"),
                },
            }
        },
        "/-/reload": {"post": _reload("reload"), "put": _reload("reloadByPut")},
        "/openapi.json": {
            "get": {
                "operationId": "openapi",
                "summary": "This description",
                "responses": {
                    "200": answer(
                        "OpenAPI 3.1, with the limits in force.",
                        "application/json",
                        {"type": "object"},
                    )
                },
            }
        },
    },
    {"Problem": _PROBLEM},
)
