"""An explanation of a window and its map, as the explainer would have made them."""

from __future__ import annotations

from typing import Any

from ingest.store.explanations import ExplanationRow

SUMMARY = (
    "m: at least 9 % of the last 500 vectors are unlike the baseline."
    " More: audio, player 9.5 % (was 2.2 %)."
)


def explained(at: float, model_name: str = "m", kind: str = "new content") -> ExplanationRow:
    """Return an explanation of the fast window, made at a time, of a drift that had just begun."""
    group = {
        "id": "g1",
        "name": "audio, player",
        "change": "grown",
        "share": 0.095,
        "lower": 0.08,
        "upper": 0.11,
        "share_before": 0.022,
        "keywords": ["audio", "player"],
        "metadata": [{"key": "section", "value": "sound", "share": 0.8, "share_before": 0.1}],
        "centre": [0.5, -1.0],
        "examples": [{"seq": 7, "id": "doc 7", "received_at": "2026-01-01T00:00:00Z"}],
    }
    lost = {**group, "id": "g2", "name": "perl", "change": "shrunk", "share": 0.001}
    told = {
        "vectors": 500,
        "score": 21.5,
        "changed_ratio": {"estimate": 0.12, "lower": 0.09, "upper": 0.15},
        "explained": 0.07,
        "cause": {"kind": kind, "evidence": ["topics moved differently (0.31 of 1)"]},
        "metadata": [{"key": "tenant", "value": "acme", "share": 0.4, "share_before": 0.05}],
        "groups": [group, lost],
        "numbered": 2,
        "texts": "keywords",
        "metadata_keys": None,
    }
    return ExplanationRow(model_name, "fast", "", at, 0, at, at, 1, SUMMARY, told)


def point(seq: int, of: str | None = None, x: float = 0.0, y: float = 0.0) -> dict[str, Any]:
    """A vector on a map."""
    told = {"seq": seq, "id": f"doc {seq}", "received_at": "2026-01-01T00:00:00Z"}
    return {"x": x, "y": y, "group": of, **told}


def drawn(*points: dict[str, Any], rings: tuple[str, ...] = ()) -> dict[str, Any]:
    """A map, as the store has it."""
    return {
        "baseline": [[-1, 0], [1, 0], [0, 1]],
        "regions": [{"x": 0.5, "y": -0.5, "name": "perl"}],
        "rings": [{"x": -0.5, "y": 0.5, "name": ring, "radius": 0.1} for ring in rings],
        "points": list(points),
    }
