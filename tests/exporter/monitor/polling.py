"""What the tests of the tail share: settings, and what a model holds after a poll."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import psycopg
from numpy.typing import NDArray

from exporter.monitor.model import Model, Models
from exporter.monitor.tail import Tail
from exporter.monitor.verdict import Verdict
from ingest.runtime.settings.settings import (
    BaselineSettings,
    MonitoringSettings,
    WindowSettings,
    WindowsSettings,
)
from ingest.store.changes import ModelRow
from tests.service import wait_for

T = TypeVar("T")
Vectors = NDArray[np.float32]

SETTINGS = MonitoringSettings(
    baseline=BaselineSettings(vectors=1_000),
    windows=WindowsSettings(
        fast=WindowSettings(seconds=900, max_vectors=1_000),
        slow=WindowSettings(seconds=21_600, max_vectors=1_000),
    ),
)


def held(model: Model, window_name: str) -> Vectors:
    return model.windows.arrivals(window_name).vectors


def verdict(models: Models, window_name: str) -> Verdict:
    [found] = [
        each.verdict
        for each in models.by_name["m"].snapshot(models.now()).series
        if each.series.window == window_name
    ]
    return found


def fail_to_read(connection: psycopg.Connection) -> None:
    """Have the server raise what it raises for a damaged block."""
    connection.execute(
        "do $$ begin raise 'could not read block 7' using errcode = 'io_error'; end $$"
    )


def unreadable(read: Callable[..., T]) -> Callable[..., T]:
    """Return a read of the store by model, with a damaged block among the rows of the model a."""

    def damaged(connection: psycopg.Connection, model: str | ModelRow, *arguments: Any) -> T:
        if (model if isinstance(model, str) else model.model_name) == "a":
            fail_to_read(connection)
        return read(connection, model, *arguments)

    return damaged


def poll_until(tail: Tail, condition: Callable[[], bool]) -> None:
    def is_met() -> bool:
        tail.poll()
        return condition()

    wait_for(is_met, "what was waited for")
