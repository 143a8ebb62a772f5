"""A model with slices to show, and patience with a busy machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from exporter.detector import Detector
from exporter.monitor.snapshot import ModelSnapshot
from exporter.stats.arrays import Vectors
from tests.exporter import shown


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """Let answers and pages wait for the store, and models for polls, while a machine is busy.

    A patch of its own: a test may undo what it patches itself.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("exporter.http.fleet.ANSWER_SECONDS", 240.0)
        patch.setattr("exporter.http.fleet._PAGE_SECONDS", 240.0)
        patch.setattr("exporter.monitor.tail._LATE_SECONDS", 240.0)
        yield


@pytest.fixture(scope="module")
def sliced(detector: Detector, vectors: Vectors) -> ModelSnapshot:
    """A model whose tenant <b>acme drifts, beside one that does not and a new one."""
    return shown.sliced(detector, vectors)
