"""Pairs of samples with everything that breaks rank statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray


@st.composite
def pairs(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[Any]]:
    """Unequal sizes, ties, dead dimensions, all float types."""
    # scipy divides by the rounded effective size: 2 rows at least.
    n, m = draw(st.integers(2, 60)), draw(st.integers(2, 60))
    d = draw(st.integers(1, 4))
    decimals = draw(st.integers(0, 3))
    kinds = [draw(st.sampled_from([np.float16, np.float32, np.float64])) for _ in range(2)]
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    reference, current = (
        np.round(random.normal(draw(st.floats(-1, 1)), 1, size=(rows, d)), decimals)
        for rows in (n, m)
    )
    if draw(st.booleans()):
        reference[:, 0] = current[:, 0] = 0.5
    return reference.astype(kinds[0]), current.astype(kinds[1])
