"""Rows: copies of some, and columns separated into ids and metadata."""

from __future__ import annotations

import numpy as np

from ingest.files.rows import BLOCK, Rows, blocks, id_texts, ids_and_metadata
from tests.ingest.files.vectors import IDS, VECTORS


def test_picked_rows_keep_their_ids_and_metadata() -> None:
    rows = Rows(VECTORS, IDS, [{"n": n} for n in range(3)]).pick([2, 0])
    np.testing.assert_array_equal(rows.vectors, VECTORS[[2, 0]])
    assert (rows.ids, rows.metadata) == (["c", "a"], [{"n": 2}, {"n": 0}])


def test_rows_without_ids_and_metadata_have_none_when_picked() -> None:
    rows = Rows(VECTORS).pick([1])
    assert (len(rows), rows.ids, rows.metadata) == (1, (), ())


def test_blocks_have_a_limited_size_and_keep_the_order() -> None:
    found = list(blocks(range(2 * BLOCK + 1)))
    assert [len(block) for block in found] == [BLOCK, BLOCK, 1]
    assert [number for block in found for number in block] == list(range(2 * BLOCK + 1))
    assert list(blocks([])) == []


def test_columns_are_separated_into_ids_and_metadata_without_nulls() -> None:
    columns = {"id": [1, None], "text": ["one", None], "n": [0, None]}
    assert ids_and_metadata(columns) == (["1", None], [{"text": "one", "n": 0}, {}])


def test_columns_of_nulls_are_left_out() -> None:
    assert ids_and_metadata({"id": [None, None], "text": [None, None]}) == ((), ())
    assert id_texts([None]) == ()
