"""The OpenAPI description: helpers to write a part of it, and the document made of all parts.

A body is described by the ``msgspec.Struct`` that reads or writes it. :mod:`ingest.http.operations`
is an example.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ingest.runtime.auth import guard
from ingest.runtime.http import fields
from ingest.runtime.http.problems import Problem
from ingest.runtime.version import __version__

Json = dict[str, Any]

MOMENT: Json = {"type": "string", "format": "date-time"}
MODEL_NAME: Json = {"type": "string", **fields.MODEL_NAME}
RETRY_AFTER: Json = {
    "Retry-After": {
        "description": "Seconds to wait before sending the request again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    }
}
PRETTY: Json = {
    "name": "pretty",
    "in": "query",
    "description": "Indents the JSON.",
    "allowEmptyValue": True,
    "schema": {"enum": ["true", "false", ""], "default": "false"},
}
CHALLENGES: Json = {
    "WWW-Authenticate": {
        "description": "The accepted ways to authenticate.",
        "required": True,
        "schema": {"type": "string"},
    }
}

_REFERENCE = "#/components/schemas/{name}"


class Description(NamedTuple):
    """What one half of the service adds to the description.

    Attributes
    ----------
    paths : mapping of str to dict
        Operations by path and method.
    structs : sequence of Struct types
        JSON bodies. Their schemas, and those of structs within them, have the names of the classes.
    schemas : mapping of str to dict
        Schema keywords that a Struct cannot express, by the name of the Struct, and further schemas
        by name.
    """

    paths: Mapping[str, Json]
    structs: Sequence[type[msgspec.Struct]] = ()
    schemas: Mapping[str, Json] = {}


def schema(of: type[msgspec.Struct] | str) -> Json:
    """Refer to the schema of a Struct, or to another schema by its name."""
    return {"$ref": _REFERENCE.format(name=of if isinstance(of, str) else of.__name__)}


def answer(
    description: str, media_type: str, of: Json | None = None, headers: Json | None = None
) -> Json:
    """Describe one answer. Without a schema it is text."""
    content = {media_type: {"schema": of or {"type": "string"}}}
    return {"description": description, "content": content} | (
        {} if headers is None else {"headers": headers}
    )


def problem(when: str, headers: Json | None = None) -> Json:
    """Describe one answer that is an RFC 9457 problem."""
    return answer(when, "application/problem+json", schema(Problem), headers)


def document(parts: Sequence[Description], schemes: Sequence[str]) -> Json:
    """Make the description of all parts.

    Parameters
    ----------
    parts : sequence of Description
        One for each half.
    schemes : sequence of str
        Ways to authenticate, by their names in `SECURITY_SCHEMES`; empty when no credentials are
        needed.
    """
    parts = [*parts, _COMMON]
    schemas = _schemas([struct for part in parts for struct in part.structs])
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
            "schemas": schemas
            | {
                name: schemas.get(name, {}) | of
                for part in parts
                for name, of in part.schemas.items()
            },
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def _schemas(structs: Sequence[type[msgspec.Struct]]) -> dict[str, Json]:
    """Describe Structs, and those within them, by name."""
    _, schemas = msgspec.json.schema_components(structs, ref_template=_REFERENCE)
    for of in schemas.values():
        # A docstring is indented, which Markdown would show as code.
        of["description"] = inspect.cleandoc(of["description"])
    return schemas


def _guarded(method: str, path: str, operation: Json, schemes: Sequence[str]) -> Json:
    """Add the credentials that an operation needs, and the answers when they do not suffice."""
    if path in guard.OPEN:
        return operation | {"security": []}
    needed = guard.needed_scope(method.upper(), path)
    refusals = {
        "401": _UNAUTHORIZED,
        "403": problem(f"The credentials lack the scope {needed}."),
        "429": problem(
            "Too many passwords wait to be checked, or clients read their answers too slowly.",
            RETRY_AFTER,
        ),
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
        "Stores embeddings and measures the drift of their distribution.\n\n"
        "Every error is an RFC 9457 problem, except at `/v1/traces`. An unknown path answers 404."
        " An unknown method answers 405 and lists the allowed ones in `Allow`. HEAD is allowed"
        " where GET is. A request without exactly one valid `Host` answers 400. A `Host` that the"
        " service does not answer to, and a request by which a page of another origin could change"
        " something, answer 403."
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

_UNAUTHORIZED = problem("The credentials are missing or wrong.", CHALLENGES)


def _reload(operation_id: str) -> Json:
    return {
        "operationId": operation_id,
        "summary": "Read the configuration again",
        "responses": {
            "200": answer("The configuration was reloaded.", "text/plain"),
            "500": problem(
                "The configuration is invalid, or changes a setting that needs a restart. The old"
                " one stays in use. `errors` names the settings."
            ),
        },
    }


_COMMON = Description(
    {
        "/metrics": {
            "get": {
                "operationId": "metrics",
                "summary": "Metrics for Prometheus",
                "parameters": [
                    {
                        "name": "name[]",
                        "in": "query",
                        "description": "Names of the samples to return; all by default.",
                        "schema": {"type": "array", "items": {"type": "string"}},
                    },
                    {
                        "name": "X-Prometheus-Scrape-Timeout-Seconds",
                        "in": "header",
                        "description": "Timeout of the scraper. Anything but a number means none.",
                        "schema": {"type": "string"},
                    },
                ],
                "responses": {
                    "200": {
                        "description": (
                            "Metrics in the format that `Accept` prefers, compressed with gzip if"
                            " `Accept-Encoding` allows it."
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
                "summary": "Whether the process is alive",
                "responses": {"200": answer("The process is alive.", "text/plain")},
            }
        },
        "/-/ready": {
            "get": {
                "operationId": "ready",
                "summary": "Whether requests can be served",
                "responses": {
                    "200": answer("Ready.", "text/plain"),
                    "503": answer("Not ready. Each line is a reason.", "text/plain"),
                },
            }
        },
        "/-/reload": {"post": _reload("reload"), "put": _reload("reloadByPut")},
        "/openapi.json": {
            "get": {
                "operationId": "openapi",
                "summary": "This description",
                "parameters": [PRETTY],
                "responses": {
                    "200": answer(
                        "OpenAPI 3.1, with the current limits.",
                        "application/json",
                        {"type": "object"},
                    ),
                    "400": problem("`pretty` is neither true nor false."),
                },
            }
        },
    },
    structs=[Problem],
)
