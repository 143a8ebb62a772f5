"""A detector of real sentence embeddings, its reference, and other sentences."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.detector import Detector

Vectors = NDArray[np.float32]


@pytest.fixture(scope="session")
def reference(sentences: Vectors) -> Vectors:
    return sentences[:2_500]


@pytest.fixture(scope="session")
def judge(reference: Vectors) -> Detector:
    return Detector.fit(reference)


@pytest.fixture(scope="session")
def fresh(sentences: Vectors) -> Vectors:
    """Sentences that are not in the reference."""
    return sentences[2_500:]
