"""Baselines: what is pinned is what is loaded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import psycopg
import pytest

from exporter.monitor import baseline
from exporter.stats.arrays import Vectors
from exporter.stats.quality import assess
from ingest.runtime.errors import DimensionMismatch, NotFound
from ingest.store.selection import Selection

Send = Callable[..., None]


def test_a_pinned_baseline_is_loaded_as_it_was(
    connection: psycopg.Connection, send: Send, vectors: Vectors
) -> None:
    send(vectors[:600])
    assert baseline.pin(connection, "m", Selection(first=500)) == 1
    loaded = baseline.load(connection, "m", 1)
    assert (loaded.version, loaded.last_seq, loaded.source) == (1, 500, "first 500")
    assert loaded.detector.n_reference == 500
    assert loaded.quality == assess(vectors[:500])


def test_only_the_first_baseline_is_pinned_if_asked_so(
    connection: psycopg.Connection, send: Send, vectors: Vectors
) -> None:
    send(vectors[:500])
    selection = Selection(first=500)
    assert baseline.pin(connection, "m", Selection(first=501), only_first=True) is None
    assert baseline.pin(connection, "m", selection, only_first=True) == 1
    assert baseline.pin(connection, "m", selection, only_first=True) is None


def test_vectors_from_outside_add_a_model_with_a_baseline(
    connection: psycopg.Connection, vectors: Vectors
) -> None:
    times = np.arange(500.0)
    assert baseline.pin_vectors(connection, "m", vectors[:500], times, "lake") == 1
    loaded = baseline.load(connection, "m", 1)
    assert (loaded.last_seq, loaded.source) == (0, "lake")
    assert loaded.detector.n_reference == 500
    with pytest.raises(DimensionMismatch):
        baseline.pin_vectors(connection, "m", vectors[:500, :5], times, "lake")


def test_a_baseline_that_cannot_be_read_is_an_error(
    connection: psycopg.Connection, send: Send, vectors: Vectors
) -> None:
    send(vectors[:500])
    baseline.pin(connection, "m", Selection(first=500))
    with pytest.raises(NotFound):
        baseline.load(connection, "m", 2)
    connection.execute("update baseline set quality = '{\"other\": 1}'")
    with pytest.raises(ValueError, match="quality of other fields: other"):
        baseline.load(connection, "m", 1)
