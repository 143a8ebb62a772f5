"""The dimension of a model is that of its first vector."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import psycopg
import pytest

from ingest.runtime.errors import NotFound
from ingest.store import dimension
from ingest.store.batch import Batch

InsertAll = Callable[..., list[object]]


def test_the_first_vectors_set_the_dimension(
    insert_all: InsertAll, connection: psycopg.Connection
) -> None:
    insert_all(Batch("m", np.ones((2, 3), np.float32)), Batch("n", np.ones((2, 5), np.float32)))
    insert_all(Batch("m", np.ones((2, 4), np.float32)))
    assert (dimension.known(connection, "m"), dimension.of(connection, "m")) == (3, 3)
    assert dimension.of(connection, "n") == 5


def test_an_unknown_model_has_none(connection: psycopg.Connection) -> None:
    assert dimension.known(connection, "none") is None
    with pytest.raises(NotFound, match="there is no model 'none'"):
        dimension.of(connection, "none")
