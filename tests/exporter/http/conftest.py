"""A model with slices, to show."""

from __future__ import annotations

import pytest

from exporter.detector import Detector
from exporter.monitor.snapshot import ModelSnapshot
from exporter.stats.arrays import Vectors
from tests.exporter import shown


@pytest.fixture(scope="module")
def sliced(detector: Detector, vectors: Vectors) -> ModelSnapshot:
    """A model whose tenant <b>acme drifts, beside one that does not and a new one."""
    return shown.sliced(detector, vectors)
