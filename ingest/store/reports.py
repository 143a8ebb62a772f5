"""The last report of each model, by which every replica shows the whole fleet.

The exporter that follows a model writes its report at each check. Others read it, also while that
exporter is away: a report has an age, by the clock of the store.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from ingest.runtime.errors import NotFound

_CHECKS_MISSED = 3
"""Checks without a new report after which nobody measures the model."""


@dataclass(frozen=True, slots=True)
class Report:
    """A report to store.

    Attributes
    ----------
    model_name : str
    age : float
        Seconds since it was made.
    glance, detail : bytes
        A part that is enough for a list of models, and the whole, in JSON.
    """

    model_name: str
    age: float
    glance: bytes
    detail: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store has of a model's last report.

    Attributes
    ----------
    model_name : str
    text : str or None
        Its JSON, whole or at a glance; None if no exporter has checked the model yet.
    age : float
        Seconds since it was made, by the clock of the store. A clock that was set back makes it 0.
    is_overdue : bool
        Whether the exporter of the model has missed several checks.
    """

    model_name: str
    text: str | None
    age: float
    is_overdue: bool


def write(connection: psycopg.Connection, reports: Sequence[Report], interval: float) -> None:
    """Replace the reports of models. Those of models that were removed are deleted.

    Parameters
    ----------
    connection : psycopg.Connection
    reports : sequence of Report
    interval : float
        Seconds until their exporter writes the next ones.
    """
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into report select model_name,"
            " clock_timestamp() - make_interval(secs => %s), %s, %s, %s"
            " from model where model_name = %s"
            " on conflict (model_name) do update set computed_at = excluded.computed_at,"
            " check_interval_seconds = excluded.check_interval_seconds,"
            " glance = excluded.glance, detail = excluded.detail",
            [
                (each.age, interval, each.glance.decode(), each.detail.decode(), each.model_name)
                for each in sorted(reports, key=lambda report: report.model_name)
            ],
        )
        # One may have been written while its model was removed.
        cursor.execute(
            "delete from report where not exists"
            " (select from model where model.model_name = report.model_name)"
        )


_STORED = sql.SQL(
    "select model_name, {},"
    " greatest(extract(epoch from clock_timestamp() - computed_at), 0)::float8,"
    " check_interval_seconds from model left join report using (model_name) where model_name {}"
)


def glances(connection: psycopg.Connection, but: Collection[str] = ()) -> list[Stored]:
    """Read what a list of models needs of each, except of the models of some names."""
    glance = _STORED.format(sql.Identifier("glance"), sql.SQL("<> all(%s)"))
    rows = connection.execute(glance, [list(but)])
    return [_stored(*row) for row in rows]


def detail(connection: psycopg.Connection, model_name: str) -> Stored:
    """Read the whole report of a model.

    Raises
    ------
    NotFound
        If there is no such model.
    """
    whole = _STORED.format(sql.Identifier("detail"), sql.SQL("= %s"))
    row = connection.execute(whole, [model_name]).fetchone()
    if row is None:
        raise NotFound(f"there is no model {model_name!r}")
    return _stored(*row)


def watched(connection: psycopg.Connection) -> int:
    """Count the models and slices that had a score when their models were reported."""
    cursor = connection.execute(
        "select coalesce(sum(coalesce((glance::json->>'watched')::bigint, 1)), 0)::bigint"
        " from report"
    )
    [(found,)] = cursor
    return int(found)


def _stored(model_name: str, text: str | None, age: float | None, interval: float | None) -> Stored:
    if text is None or age is None or interval is None:
        return Stored(model_name, None, 0.0, False)
    return Stored(model_name, text, age, age > _CHECKS_MISSED * interval)
