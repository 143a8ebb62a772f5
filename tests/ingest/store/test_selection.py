"""Select vectors: which ones, in which order, and at most how many."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from ingest.runtime.errors import NotFound
from ingest.store.selection import Selection, Stretches, select

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("chosen", "seqs"),
    [
        (Selection(first=3), [1, 2, 3]),
        (Selection(last=3), [18, 19, 20]),
        (Selection(first=99), list(range(1, 21))),
        (Selection(first=10**30), list(range(1, 21))),
        (Selection(last=10**30), list(range(1, 21))),
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
def test_the_last_are_those_with_the_highest_numbers_also_after_the_clock_was_set_back(
    connection: psycopg.Connection,
) -> None:
    connection.execute(
        "update embedding set received_at = received_at + interval '2 days' where seq <= 15"
    )
    assert select(connection, "m", Selection(last=3))["seq"].tolist() == [18, 19, 20]


@pytest.mark.parametrize(
    ("total", "most", "stretches"),
    [
        (10_000, 10_000, Stretches(1, 1, 10_000)),
        (10_001, 10_000, Stretches(256, 256, 39)),
        (24_480, 10_000, Stretches(256, 637, 39)),
        (5_000_000, 50_000, Stretches(256, 25_771, 195)),
        (1_000, 320, Stretches(10, 31, 32)),
    ],
)
def test_a_sample_is_stretches_of_consecutive_vectors_spread_evenly(
    total: int, most: int, stretches: Stretches
) -> None:
    assert Stretches.of(total, most) == stretches
    places = stretches.places(total)
    assert 0.97 * min(total, most) < len(places) <= most
    if stretches.period > stretches.length:
        firsts = places[np.diff(places, prepend=-2) > 1]
        assert set(np.diff(firsts)) == {stretches.period}
    assert places[0] == 0
    assert total - places[-1] <= stretches.number


@pytest.mark.usefixtures("filled")
def test_of_too_many_vectors_a_sample_is_taken(connection: psycopg.Connection) -> None:
    rows = select(connection, "m", Selection(first=20, most=6))
    assert rows["seq"].tolist() == [1, 4, 7, 10, 13, 16]


@pytest.mark.usefixtures("filled")
def test_a_sample_goes_by_the_place_of_a_row_not_by_its_number(
    connection: psycopg.Connection,
) -> None:
    connection.execute("delete from embedding where seq % 2 = 0")
    rows = select(connection, "m", Selection(first=20, most=5))
    assert rows["seq"].tolist() == [1, 5, 9, 13, 17]


@pytest.mark.usefixtures("filled")
def test_vectors_are_selected_by_their_arrival(connection: psycopg.Connection) -> None:
    connection.execute(
        "update embedding set received_at = received_at - interval '1 minute' where seq < 15"
    )
    connection.execute(
        "update embedding set received_at = received_at + interval '1 minute' where seq > 18"
    )
    found = connection.execute(
        "select received_at from embedding where seq in (15, 19) order by seq"
    ).fetchall()
    [first], [last] = found
    rows = select(connection, "m", Selection(arrived=(first, last)))
    assert rows["seq"].tolist() == list(range(15, 19))


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (Selection(first=5), "first 5"),
        (Selection(last=5), "last 5"),
        (Selection(start=START), "from 2026-01-01 00:00:00 UTC to now"),
        (
            Selection(arrived=(START, START + timedelta(days=1))),
            "from 2026-01-01 00:00:00 UTC to 2026-01-02 00:00:00 UTC",
        ),
        (Selection(end=START), "from the beginning to 2026-01-01 00:00:00 UTC"),
    ],
    ids=str,
)
def test_a_selection_describes_itself(chosen: Selection, words: str) -> None:
    assert str(chosen) == words


def test_an_unknown_model_is_an_error(connection: psycopg.Connection) -> None:
    with pytest.raises(NotFound, match="there is no model 'none'"):
        select(connection, "none", Selection(first=1))
