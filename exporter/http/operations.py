"""The exporter half's part of the OpenAPI description: ``/drift`` and the pages for people."""

from __future__ import annotations

from exporter.detector.detector import Detector
from exporter.metrics.families import AGGREGATES, HISTORY_STATES, STATES
from ingest.runtime.http.openapi import (
    COUNT,
    MODEL_NAME,
    MOMENT,
    NUMBER,
    RETRY_AFTER,
    Json,
    Part,
    answer,
    nullable,
    problem,
    record,
    schema,
)
from ingest.runtime.settings.settings import WindowsSettings


def _windows(of: Json) -> Json:
    return record(dict.fromkeys(WindowsSettings.model_fields, of))


def _each(of: Json) -> Json:
    return {"type": "array", "items": of}


_AGGREGATED = record(dict.fromkeys(AGGREGATES, NUMBER))

_MEASUREMENT: Json = {
    "score": NUMBER | {"description": "Decades of surprise."},
    "components": record(dict.fromkeys(Detector.COMPONENTS, NUMBER)),
    "magnitude": NUMBER
    | {"description": "Mean Wasserstein-1 distance, in baseline standard deviations."},
    "ks": _AGGREGATED,
    "wasserstein": _AGGREGATED,
    "cosine_similarity": NUMBER,
    "top_dimensions": _each(record({"dimension": COUNT, "ks": NUMBER, "wasserstein": NUMBER})),
}
_CHECKED: Json = {
    "quality": schema("Quality"),
    "top_dimensions_exact": schema("Exact"),
    "history": schema("History"),
}
_EXACT = {
    "exact": schema("Exact")
    | {
        "description": (
            "Of every dimension, with `exact=true`; absent while the model has no baseline or the"
            " window no vectors."
        )
    }
}

_SCHEMAS: dict[str, Json] = {
    "State": {"enum": list(STATES), "description": "ok, or the first reason not to tell."},
    "Models": record(
        {
            "models": _each(
                record(
                    {
                        "model_name": MODEL_NAME,
                        "windows": _windows(
                            record({"state": schema("State"), "score": NUMBER, "magnitude": NUMBER})
                        ),
                    }
                )
            )
        }
    ),
    "Drift": record(
        {
            "model_name": MODEL_NAME,
            "dimension": COUNT,
            "vectors": COUNT | {"description": "Stored since the model is known."},
            "last_vector_at": nullable(MOMENT),
            "computed_at": MOMENT,
            "baseline": nullable(schema("Baseline")),
            "windows": _windows(schema("Window")),
        }
    ),
    "Baseline": record(
        {
            "version": COUNT,
            "pinned_at": MOMENT,
            "source": {"type": "string"},
            "vectors": COUNT,
            "cosine_similarity": NUMBER,
            "seasonal": {"type": "boolean"},
            "quality": schema("Quality"),
        }
    ),
    "Window": record(
        {
            "state": schema("State"),
            "seconds": COUNT,
            "min_vectors": COUNT,
            "max_vectors": COUNT,
            "vectors": COUNT,
            "start": nullable(MOMENT),
            **_MEASUREMENT,
            **_CHECKED,
            **_EXACT,
        },
        optional=[*_MEASUREMENT, *_CHECKED, *_EXACT],
        description=(
            "The numbers from `score` to `top_dimensions` are there in the state ok only. The last"
            " check of the model leaves `quality`, `history` and, of a surprising window,"
            " `top_dimensions_exact`."
        ),
    ),
    "Quality": record(
        {
            "norm": NUMBER,
            "effective_rank": NUMBER,
            "dead_dimensions": COUNT,
            "duplicate_ratio": NUMBER,
        }
    ),
    "Exact": record(
        {
            "dimension": _each(COUNT),
            "ks": _each(NUMBER),
            "ks_p_value": _each(NUMBER),
            "wasserstein": _each(NUMBER),
        }
    ),
    "History": record(
        {
            "state": {"enum": list(HISTORY_STATES)},
            "expected": NUMBER,
            "lower": NUMBER,
            "upper": NUMBER,
            "anomaly": NUMBER,
            "slope_per_day": NUMBER,
            "trend_score": NUMBER,
            "changed_at": nullable(MOMENT),
        }
    ),
}


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
            "description": "A slash in it may be written as it is.",
            "schema": {"type": "string"},
        },
        {
            "name": "exact",
            "in": "query",
            "description": (
                "Adds `exact` to each window: the statistics of every dimension from the vectors"
                " themselves. Without a baseline there is nothing to add."
            ),
            "schema": {"enum": ["true", "false"], "default": "false"},
        },
    ],
    "responses": {
        "200": answer("All that is known of the model.", "application/json", schema("Drift")),
        "400": problem("`exact` is neither true nor false."),
        "404": problem("There is no such model, or another shard follows it."),
        "503": problem("PostgreSQL does not answer; only with `exact=true`.", RETRY_AFTER),
    },
}

PART = Part(
    {
        "/": {"get": _page("landing", "Every model at a glance, for people")},
        "/runbook": {"get": _page("runbook", "What each alert means and what to do")},
        "/drift": {
            "get": {
                "operationId": "listDrift",
                "summary": "All models with their states",
                "responses": {
                    "200": answer(
                        "The models this process follows.", "application/json", schema("Models")
                    )
                },
            }
        },
        "/drift/{model_name}": {"get": _DRIFT},
    },
    schemas=_SCHEMAS,
)
