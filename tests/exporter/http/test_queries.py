"""What the store has of models, and how a report of another release is read."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from exporter.http import queries
from ingest.runtime.errors import NotChecked, NotFound
from tests.exporter.monitor.polling import Vectors


def test_a_report_of_another_release_is_not_shown_as_if_it_were_understood(
    send: Callable[..., None], connection: psycopg.Connection, vectors: Vectors
) -> None:
    send(vectors[:60], "m")
    connection.execute(
        "insert into report values ('m', clock_timestamp(), 300, '{\"a\": 1}', '{\"a\": 1}')"
    )
    with pytest.raises(NotChecked, match="another release"):
        queries.detail(connection, "m")
    [listed] = queries.listed(connection, [])
    assert (listed.model_name, listed.age) == ("m", None)


def test_a_model_that_is_not_there_is_not_found_and_says_where_the_models_are(
    connection: psycopg.Connection,
) -> None:
    with pytest.raises(NotFound, match="GET /drift lists the models"):
        queries.detail(connection, "m")


def test_models_that_are_known_already_are_left_out(
    send: Callable[..., None], connection: psycopg.Connection, vectors: Vectors
) -> None:
    for name in ("a", "b"):
        send(vectors[:10], name)
    assert [each.model_name for each in queries.listed(connection, ["a"])] == ["b"]
