"""Reports of what the store has of a model, whichever process measured it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from exporter.monitor.report import (
    Check,
    Checks,
    Explanation,
    ListedModel,
    ListedWindow,
    ListedWindows,
    NewestVectors,
    Past,
    Vector,
)
from ingest.store.explanations import ExplanationRow
from ingest.store.history import HistoryRow
from ingest.store.stored_vector import StoredVector


def unchecked(model_name: str) -> ListedModel:
    """List a model of which only the name is known."""
    window = ListedWindow("not_followed", 0, None, None)
    return ListedModel(model_name, None, None, False, ListedWindows(window, window))


def checks(model_name: str, window: str, rows: Iterable[tuple[datetime, HistoryRow]]) -> Checks:
    """Report the history of a window."""
    return Checks(model_name, window, [_check(at.astimezone(UTC), row) for at, row in rows])


def _check(computed_at: datetime, row: HistoryRow) -> Check:
    return Check(
        computed_at=computed_at,
        state=row.state,
        vectors=row.vectors,
        baseline_version=row.baseline_version,
        score=row.score,
        magnitude=row.changed_ratio,
        magnitude_lower=row.changed_ratio_lower,
        magnitude_upper=row.changed_ratio_upper,
        cosine_similarity=row.cosine_similarity,
        norm=row.norm,
        components=row.components,
    )


def past(
    model_name: str,
    at: float,
    rows: Iterable[tuple[float, HistoryRow]],
    sliced: Iterable[tuple[float, str, HistoryRow]],
    explained: Iterable[Explanation],
) -> Past:
    """Report what was recorded before a time, in seconds since the epoch."""
    slices: dict[str, dict[str, Check]] = {}
    for computed_at, of_slice, row in sliced:
        slices.setdefault(of_slice, {})[row.window_name] = _check(_moment(computed_at), row)
    return Past(
        model_name,
        _moment(at),
        {row.window_name: _check(_moment(computed_at), row) for computed_at, row in rows},
        slices,
        list(explained),
    )


def explanation(row: ExplanationRow) -> Explanation:
    """Report what changed in a window."""
    known = {
        "window": row.window_name,
        "slice": row.slice,
        "began_at": _moment(row.began_at),
        "explained_at": _moment(row.explained_at),
        "baseline_version": row.baseline_version,
        "summary": row.summary,
    }
    return msgspec.convert({**row.told, **known}, Explanation)


def is_readable(row: ExplanationRow) -> bool:
    """Whether this release knows the form of an explanation: another one may have stored it."""
    try:
        explanation(row)
    except msgspec.ValidationError:
        return False
    return True


def newest_vectors(
    model_name: str,
    window: str,
    baseline_version: int | None,
    found: Iterable[StoredVector],
    novelty: Iterable[float | None],
) -> NewestVectors:
    """Report vectors and how new each is."""
    vectors = [
        Vector(
            each.seq,
            each.id,
            each.received_at.astimezone(UTC),
            None if each.embedded_at is None else each.embedded_at.astimezone(UTC),
            each.metadata,
            how_new,
        )
        for each, how_new in zip(found, novelty, strict=True)
    ]
    return NewestVectors(model_name, window, baseline_version, vectors)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
