"""Rows are deleted in steps, and only those for which the condition holds."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from ingest.store import steps


@pytest.mark.parametrize("number", [0, 2, 3, 4, 8])
def test_all_rows_that_are_meant_are_deleted_and_no_others(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(steps, "_ROWS", 3)
    # The least id there can be, and several rows of one time.
    connection.execute(
        "insert into embedding_id select model_name, case when n > 1 then n::text else '' end, n,"
        " to_timestamp(n / 4) from generate_series(1, %s) as n, (values ('m'), ('other'))"
        " as of_model (model_name)",
        [number],
    )
    of_model = sql.SQL("model_name = %s")
    begun = []

    def left() -> list[tuple[str, int]]:
        rows = connection.execute("select model_name, count(*) from embedding_id group by 1")
        return sorted(rows.fetchall())

    steps.delete(
        connection, "embedding_id", "id", "", of_model, ["m"], lambda: begun.append(left())
    )
    assert left() == ([("other", number)] if number else [])
    assert len(begun) == number // 3 + 1
    steps.delete(connection, "embedding_id", "received_at", "-infinity", of_model, ["other"])
    assert left() == []
