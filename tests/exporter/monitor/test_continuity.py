"""Continuity: an exporter that ran all along says what one says that starts now."""

from __future__ import annotations

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.conninfo import make_conninfo

from ingest.store.connection import connect
from tests.exporter.monitor import continuity


def test_an_exporter_that_ran_all_along_says_what_a_new_one_says(
    store: str, vectors: NDArray[np.float32], long: bool
) -> None:
    with psycopg.connect(store, autocommit=True) as owner:
        owner.execute(continuity.CLOCK.encode())
    moved = make_conninfo(store, options=f"-c search_path={continuity.SEARCH_PATH}")
    with connect(moved) as connection:
        continuity.run(moved, connection, vectors, long)
