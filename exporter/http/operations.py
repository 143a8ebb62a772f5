"""OpenAPI description of the fleet and of the exporter: ``/drift`` and the pages for people.

JSON bodies are described by their Structs in :mod:`exporter.monitor.report`.
"""

from __future__ import annotations

from exporter.http.condition import WORDS
from exporter.http.model_page import RANGES
from exporter.monitor.report import Checks, Drift, Map, Models, NewestVectors, Past
from ingest.runtime.http.openapi import (
    PRETTY,
    RETRY_AFTER,
    Description,
    Json,
    answer,
    problem,
    schema,
)
from ingest.runtime.settings.settings import WindowsSettings
from ingest.runtime.timestamps import END

_YEARS = r"^(19[7-9]\d|[2-4]\d{3}|50\d\d|51[0-2]\d|513[0-7])-"
"""Begin of the times that `ingest.runtime.timestamps` takes."""
_SLICE = {"type": "string", "pattern": r"^([^\x00]*=[^\x00]*)?$"}
MOST_CHECKS = 10_000
"""Checks of a history that one answer may have."""
MOST_PAGES = 999_999
"""Pages that a list of models may have."""
MOST_VECTORS = 1_000
"""Vectors that one answer may have."""


def _page(operation_id: str, summary: str) -> Json:
    return {
        "operationId": operation_id,
        "summary": summary,
        "responses": {"200": answer("A page.", "text/html")},
    }


_MODEL_NAME: Json = {
    "name": "model_name",
    "in": "path",
    "required": True,
    "description": "A slash in the name may be written as it is.",
    "schema": {"type": "string"},
}


def _window(default: str) -> Json:
    return {
        "name": "window",
        "in": "query",
        "schema": {"enum": list(WindowsSettings.model_fields), "default": default},
    }


def _newest(what: str, default: int, most: int) -> Json:
    return {
        "name": "newest",
        "in": "query",
        "description": f"How many {what} to return, at most.",
        "schema": {"type": "integer", "minimum": 1, "maximum": most, "default": default},
    }


def _parameter(name: str, description: str, of: Json) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": of}


_FLEET: Json = _page("landing", "Every model at a glance, for people") | {
    "parameters": [
        _parameter("q", "A part of the name of a model.", {"type": "string"}),
        _parameter("state", "Only models in this state.", {"enum": ["", *WORDS], "default": ""}),
        _parameter("page", "From 1.", {"type": "integer", "minimum": 1, "maximum": MOST_PAGES}),
    ],
}
_FLEET["responses"]["400"] = problem("`state` or `page` is not allowed.")
_FLEET["responses"]["503"] = problem(
    "PostgreSQL does not answer; not from an exporter, which shows what it follows.", RETRY_AFTER
)

_REPORT = answer(
    "Everything known of the model, or with `at` what was recorded before that time, or a map.",
    "application/json",
    {"anyOf": [schema(Drift), schema(Past), schema(Map)]},
)
_REPORT["content"]["text/html"] = {"schema": {"type": "string"}}
"""A page, if the client prefers ``text/html``; JSON for every other."""

_DRIFT: Json = {
    "operationId": "drift",
    "summary": "The numbers behind one model's verdict",
    "parameters": [
        _MODEL_NAME,
        {
            "name": "exact",
            "in": "query",
            "description": (
                "Adds `exact` to each window: the statistics of every dimension, computed from the"
                " vectors themselves. Without a baseline it adds nothing. Only exporters compute"
                " it; one that does not follow the model takes the newest vectors."
            ),
            "allowEmptyValue": True,
            "schema": {"enum": ["true", "false", ""], "default": "false"},
        },
        _parameter(
            "range",
            "Of the page: how far back its timeline goes.",
            {"enum": list(RANGES), "default": "24h"},
        ),
        _parameter(
            "slice",
            "Of the page: shows only this slice, `key=value`.",
            {**_SLICE, "examples": ["tenant=acme"]},
        ),
        _parameter(
            "at",
            "A past time, as in RFC 3339 or in seconds since the epoch: the answer is what was"
            " recorded before it.",
            {
                "oneOf": [
                    {"type": "string", "format": "date-time", "pattern": _YEARS},
                    {"type": "number", "minimum": 1e8, "exclusiveMaximum": END},
                ]
            },
        ),
        _parameter(
            "map",
            "Not of the page: the answer is the map of this window while it drifts, with `at` that"
            " of then.",
            {"enum": ["", *WindowsSettings.model_fields], "default": ""},
        ),
        PRETTY,
    ],
    "responses": {
        "200": _REPORT,
        "400": problem(
            "`exact`, `map`, `pretty`, `at`, `slice`, or `range` of a page, is not allowed."
        ),
        "404": problem("There is no such model, no such slice for a page, or no map."),
        "503": problem(
            "No exporter has checked the model yet, or PostgreSQL does not answer. An exporter"
            " needs it for other exporters' models, and with `exact=true`.",
            RETRY_AFTER,
        ),
    },
}

_HISTORY: Json = {
    "operationId": "history",
    "summary": "What was recorded of a window, or of a slice of it, the newest first",
    "parameters": [
        _MODEL_NAME,
        _window("slow"),
        _parameter(
            "slice",
            "`key=value`; empty for all vectors of the model.",
            {**_SLICE, "default": ""},
        ),
        _newest("checks", 100, MOST_CHECKS),
        PRETTY,
    ],
    "responses": {
        "200": answer("The newest checks.", "application/json", schema(Checks)),
        "400": problem("A parameter has a value that is not allowed."),
        "404": problem("There is no such model, or nothing was recorded of such a slice."),
        "503": problem("PostgreSQL does not answer.", RETRY_AFTER),
    },
}

_NEWEST: Json = {
    "operationId": "newestVectors",
    "summary": "The newest vectors of a window, and how new each is to the baseline",
    "parameters": [
        _MODEL_NAME,
        _window("fast"),
        _newest("vectors", 50, MOST_VECTORS),
        PRETTY,
    ],
    "responses": {
        "200": answer("The newest vectors.", "application/json", schema(NewestVectors)),
        "400": problem("A parameter has a value that is not allowed."),
        "404": problem("There is no such model."),
        "503": problem(
            "PostgreSQL does not answer, or no exporter has checked the model yet.", RETRY_AFTER
        ),
    },
}

SHOWING = Description(
    paths={
        "/": {"get": _FLEET},
        "/style.css": {
            "get": {
                "operationId": "style",
                "summary": "The style sheet of the pages",
                "responses": {"200": answer("A style sheet.", "text/css")},
            }
        },
        "/runbook": {"get": _page("runbook", "What each alert means and what to do")},
        "/drift": {
            "get": {
                "operationId": "listDrift",
                "summary": "All models with their states",
                "parameters": [PRETTY],
                "responses": {
                    "200": answer(
                        "All models, whichever exporter follows them.",
                        "application/json",
                        schema(Models),
                    ),
                    "400": problem("`pretty` is neither true nor false."),
                    "503": problem("PostgreSQL does not answer.", RETRY_AFTER),
                },
            }
        },
        "/drift/{model_name}": {"get": _DRIFT},
        "/drift/{model_name}/history": {"get": _HISTORY},
    },
    structs=(Models, Drift, Past, Map, Checks),
)
"""Of every process that shows the fleet."""

EXPORTER = Description(
    paths={**SHOWING.paths, "/models/{model_name}/vectors": {"get": _NEWEST}},
    structs=(*SHOWING.structs, NewestVectors),
)
"""Of the exporter."""
