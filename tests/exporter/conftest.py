"""Small real detectors and vectors."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.score import Detector


@pytest.fixture(scope="session")
def vectors() -> NDArray[np.float32]:
    """3,000 vectors of dimension 8 without drift."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(3_000, 8)) @ rng.normal(size=(8, 8)) + 1).astype(np.float32)


@pytest.fixture(scope="session")
def detector(vectors: NDArray[np.float32]) -> Detector:
    """A detector fitted to the first 1,000 of these vectors."""
    return Detector.fit(vectors[:1_000])
