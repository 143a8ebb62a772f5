"""Queries: what the store has of the models that other processes follow, and of the past.

Each takes a connection first, and is run in a thread by the fleet.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import psycopg

from exporter.http import fleet_page, islands, model_page
from exporter.monitor import recorded, report
from exporter.monitor.privacy import Permits
from exporter.monitor.report import Drift, Explanation, ListedModel, Map, Past
from exporter.monitor.series import Series
from ingest.runtime.errors import NotChecked, NotFound
from ingest.runtime.thresholds import KEPT_SECONDS, LASTING_SECONDS
from ingest.store import baselines, explanations, history, reports, slice_history
from ingest.store.dimension import require_dimension
from ingest.store.reports import Stored


def listed(connection: psycopg.Connection, but: Sequence[str]) -> list[ListedModel]:
    """List the models as their exporters last reported them, but for these."""
    return [_glance(stored) for stored in reports.glances(connection, but)]


def _glance(stored: Stored) -> ListedModel:
    if stored.text is None:
        return recorded.unchecked(stored.model_name)
    try:
        found = msgspec.json.decode(stored.text, type=ListedModel)
    except msgspec.ValidationError:
        return recorded.unchecked(stored.model_name)
    found.age, found.overdue = stored.age, stored.is_overdue
    return found


def detail(connection: psycopg.Connection, name: str) -> Drift:
    """Read the last report of a model.

    Raises
    ------
    NotFound
        If there is no such model.
    NotChecked
        If no exporter has reported on it yet, or in a form of another release.
    """
    try:
        stored = reports.detail(connection, name)
    except NotFound as error:
        raise NotFound(missing(name)) from error
    reason = "no exporter has checked it yet"
    if stored.text is not None:
        try:
            found = msgspec.json.decode(stored.text, type=Drift)
        except msgspec.ValidationError:
            reason = "its exporter is of another release, which writes other reports"
        else:
            found.age, found.overdue = stored.age, stored.is_overdue
            return found
    raise NotChecked(f"model {name!r} cannot be shown yet: {reason}")


def checks(
    connection: psycopg.Connection, name: str, window: str, most: int, of_slice: str
) -> report.Checks:
    """Read the newest checks of a window, or of a slice of it.

    Raises
    ------
    NotFound
        If there is no such model, or nothing was recorded of such a slice.
    """
    require_dimension(connection, name)
    if of_slice:
        rows = slice_history.newest(connection, name, of_slice, window, most)
        if not rows:
            raise NotFound(f"nothing was recorded of a slice {of_slice!r} of model {name!r}")
    else:
        rows = history.newest(connection, name, window, most)
    return recorded.checks(name, window, rows)


def averages(
    connection: psycopg.Connection, slices: Sequence[Series]
) -> tuple[float, dict[Series, float]]:
    """Read the time, and the average scores of all models and of these slices."""
    [(now,)] = connection.execute("select extract(epoch from clock_timestamp())::float8")
    hour = now - LASTING_SECONDS
    of_models = history.average_scores(connection, hour, now)
    of_slices = slice_history.average_scores(connection, hour, now, slices)
    return now, {Series(*of): average for of, average in (*of_models.items(), *of_slices.items())}


def day(connection: psycopg.Connection, names: list[str], now: float) -> list[history.Point]:
    """Read the scores of models in the last day."""
    return history.course(connection, names, now - 86_400, now, fleet_page.DAY_STRETCH)


def past(connection: psycopg.Connection, name: str, at: float, permits: Permits) -> Past:
    """Read what was known of a model at a time.

    Raises
    ------
    NotFound
        If there is no such model.
    """
    require_dimension(connection, name)
    return recorded.past(
        name,
        at,
        history.rows_at(connection, name, at),
        slice_history.rows_at(connection, name, at),
        _explained(connection, name, at, permits),
    )


def window_map(
    connection: psycopg.Connection,
    name: str,
    window: str,
    at: float | None,
    known: Sequence[Explanation],
    permits: Permits,
) -> Map | None:
    """Read the map of a window at a time, or that of what is known now."""
    if at is not None:
        require_dimension(connection, name)
        known = _explained(connection, name, at, permits)
    told = [each for each in known if each.window == window and not each.slice]
    drawn = explanations.maps(connection, name, [each.explained_at for each in told])
    return islands.described(name, told[0], drawn[window]) if told and window in drawn else None


def _explained(
    connection: psycopg.Connection, name: str, at: float, permits: Permits
) -> list[Explanation]:
    rows = explanations.at(connection, name, at, KEPT_SECONDS)
    found = [recorded.explanation(row) for row in rows if recorded.is_readable(row)]
    return [each for each in found if permits(each.texts, each.metadata_keys)]


def past_of_page(
    connection: psycopg.Connection, model: Drift, view: model_page.View, permits: Permits
) -> tuple[model_page.Past, int]:
    """Read what the store knows of a model, and how many models and slices are watched."""
    name, part = model.model_name, view.slice
    until = model.computed_at.timestamp() if view.at is None else view.at
    hour, since = until - LASTING_SECONDS, until - model_page.RANGES[view.range]
    if part:
        points = slice_history.course(connection, name, part, since, until, view.stretch)
    else:
        points = history.course(connection, [name], since, until, view.stretch)
    rows: list[tuple[float, history.HistoryRow]] = []
    sliced: list[tuple[float, str, history.HistoryRow]] = []
    explained: list[Explanation] = []
    if view.at is not None:
        rows = history.rows_at(connection, name, view.at)
        sliced = slice_history.rows_at(connection, name, view.at)
        explained = _explained(connection, name, view.at, permits)
    slices = [(of_slice, row.window_name) for _, of_slice, row in sliced]
    if view.at is None:
        slices = [(each, window) for each, window, _ in model_page.windows_of_slices(model)]
    of_whole = history.average_scores(connection, hour, until, name)
    averages = {(window, ""): average for (_, window), average in of_whole.items()}
    of_slices = [(name, window, of_slice) for of_slice, window in slices]
    of_sliced = slice_history.average_scores(connection, hour, until, of_slices)
    averages |= {(window, of_slice): each for (_, window, of_slice), each in of_sliced.items()}
    shown = model_page.known_now(model) if view.at is None else explained
    drifts = explanations.drifts(connection, name, since, until, model_page.MOST_DRIFTS, part)
    found = model_page.Past(
        points,
        averages,
        [row for _, row in rows],
        baselines.versions(connection, name),
        explained,
        model_page.drifts(drifts, permits),
        explanations.maps(connection, name, [each.explained_at for each in shown]),
        [(of_slice, row) for _, of_slice, row in sliced],
    )
    return found, reports.watched(connection)


def missing(name: str) -> str:
    """Say that there is no model of this name."""
    return f"there is no model {name!r}; GET /drift lists the models"
