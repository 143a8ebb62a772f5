from __future__ import annotations

import numpy as np
import pytest

from bench.traffic.source import Source


@pytest.fixture(scope="session")
def source() -> Source:
    """Eight topics of 150 vectors each, of dimension 16 and about unit length."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(8, 16))
    vectors = np.repeat(centres, 150, axis=0) + 0.7 * random.normal(size=(1_200, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Source(vectors.astype(np.float32), np.repeat(list("abcdefgh"), 150))
