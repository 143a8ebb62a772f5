"""Select vectors: which ones, in which order, and at most how many."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from ingest.runtime.errors import NotFound
from ingest.store import selection
from ingest.store.selection import Selection, select

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("chosen", "seqs"),
    [
        (Selection(first=3), [1, 2, 3]),
        (Selection(last=3), [18, 19, 20]),
        (Selection(first=99), list(range(1, 21))),
        (Selection(start=datetime(2026, 1, 18, tzinfo=UTC)), [18, 19, 20]),
        (Selection(end=datetime(2026, 1, 2, tzinfo=UTC)), [1, 2]),
        (
            Selection(start=datetime(2026, 1, 5, tzinfo=UTC), end=datetime(2026, 1, 6, tzinfo=UTC)),
            [5, 6],
        ),
    ],
    ids=str,
)
def test_selected_vectors_are_in_the_order_of_arrival(
    connection: psycopg.Connection,
    filled: NDArray[np.float32],
    chosen: Selection,
    seqs: list[int],
) -> None:
    rows = select(connection, "m", chosen)
    assert rows["seq"].tolist() == seqs
    np.testing.assert_array_equal(rows["embedding"], filled[np.array(seqs) - 1])


@pytest.mark.usefixtures("filled")
def test_of_too_many_vectors_every_nth_is_taken(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "MOST_VECTORS", 6)
    rows = select(connection, "m", Selection(first=20))
    assert rows["seq"].tolist() == [4, 8, 12, 16, 20]


@pytest.mark.usefixtures("filled")
def test_every_nth_is_counted_by_row_not_by_number(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "MOST_VECTORS", 5)
    connection.execute("delete from embedding where seq % 2 = 0")
    rows = select(connection, "m", Selection(first=20))
    assert rows["seq"].tolist() == [3, 7, 11, 15, 19]


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (Selection(first=5), "first 5"),
        (Selection(last=5), "last 5"),
        (Selection(start=START), "from 2026-01-01 00:00:00 UTC to now"),
        (Selection(end=START), "from the beginning to 2026-01-01 00:00:00 UTC"),
    ],
    ids=str,
)
def test_a_selection_describes_itself(chosen: Selection, words: str) -> None:
    assert str(chosen) == words


def test_an_unknown_model_is_an_error(connection: psycopg.Connection) -> None:
    with pytest.raises(NotFound, match="there is no model 'none'"):
        select(connection, "none", Selection(first=1))
