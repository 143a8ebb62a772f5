"""Vectors of a space with topics, and a detector of twenty of them."""

from __future__ import annotations

import pytest

from exporter.detector import Detector
from tests.exporter.explain.space import KNOWN, Draw, Vectors, drawing


@pytest.fixture
def draw() -> Draw:
    """Draw the same vectors in a test, whatever tests ran before."""
    return drawing(1)


@pytest.fixture(scope="session")
def baseline() -> Vectors:
    return drawing(0)(KNOWN, 3_000)


@pytest.fixture(scope="session")
def detector(baseline: Vectors) -> Detector:
    return Detector.fit(baseline)
