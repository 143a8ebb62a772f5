"""OpenAPI description of this half: ``/drift`` and the pages for people.

JSON bodies are described by their Structs in :mod:`exporter.http.report`.
"""

from __future__ import annotations

from exporter.http.report import Drift, Models
from ingest.runtime.http.openapi import RETRY_AFTER, Description, Json, answer, problem, schema


def _page(operation_id: str, summary: str) -> Json:
    return {
        "operationId": operation_id,
        "summary": summary,
        "responses": {"200": answer("A page.", "text/html")},
    }


_DRIFT: Json = {
    "operationId": "drift",
    "summary": "The numbers behind one model's verdict",
    "parameters": [
        {
            "name": "model_name",
            "in": "path",
            "required": True,
            "description": "A slash in the name may be written as it is.",
            "schema": {"type": "string"},
        },
        {
            "name": "exact",
            "in": "query",
            "description": (
                "Adds `exact` to each window: the statistics of every dimension, computed from the"
                " vectors themselves. Without a baseline it adds nothing."
            ),
            "schema": {"enum": ["true", "false"], "default": "false"},
        },
    ],
    "responses": {
        "200": answer("Everything known of the model.", "application/json", schema(Drift)),
        "400": problem("`exact` is neither true nor false."),
        "404": problem("There is no such model, or another shard follows it."),
        "503": problem("PostgreSQL does not answer; only with `exact=true`.", RETRY_AFTER),
    },
}

DESCRIPTION = Description(
    paths={
        "/": {"get": _page("landing", "Every model at a glance, for people")},
        "/runbook": {"get": _page("runbook", "What each alert means and what to do")},
        "/drift": {
            "get": {
                "operationId": "listDrift",
                "summary": "All models with their states",
                "responses": {
                    "200": answer(
                        "The models that this process follows.", "application/json", schema(Models)
                    )
                },
            }
        },
        "/drift/{model_name}": {"get": _DRIFT},
    },
    structs=(Models, Drift),
)
