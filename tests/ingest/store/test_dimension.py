"""The dimension of a model is that of its first vector."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import psycopg
import pytest

from ingest.runtime.errors import DimensionMismatch, NotFound
from ingest.store.batch import Batch
from ingest.store.dimension import check_dimension, find_dimension, require_dimension

InsertAll = Callable[..., list[object]]


def test_the_first_vectors_set_the_dimension(
    insert_all: InsertAll, connection: psycopg.Connection
) -> None:
    insert_all(Batch("m", np.ones((2, 3), np.float32)), Batch("n", np.ones((2, 5), np.float32)))
    insert_all(Batch("m", np.ones((2, 4), np.float32)))
    assert (find_dimension(connection, "m"), require_dimension(connection, "m")) == (3, 3)
    assert require_dimension(connection, "n") == 5


def test_an_unknown_model_has_none(connection: psycopg.Connection) -> None:
    assert find_dimension(connection, "none") is None
    with pytest.raises(NotFound, match="there is no model 'none'"):
        require_dimension(connection, "none")


def test_vectors_of_another_dimension_are_refused(
    insert_all: InsertAll, connection: psycopg.Connection
) -> None:
    insert_all(Batch("m", np.ones((2, 3), np.float32)))
    check_dimension(connection, "m", 3)
    check_dimension(connection, "none", 4)
    with pytest.raises(DimensionMismatch, match="model m has vectors of dimension 3, not 4"):
        check_dimension(connection, "m", 4)
