"""Outliers: vectors so long that no encoder made them beside the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exporter.stats.quality import norms

_LONGEST = 100.0
"""Norm of an outlier, in median norms. Norms of real encoders stay within a factor of ten."""
_FLOAT32 = 1e30
"""Largest absolute value of a component. Sums of larger ones overflow float32."""


def outliers(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which vectors, shape (n, d), are absurdly long; shape (n,).

    The median norm is that of the vectors that are neither zero nor beyond float32. One outlier
    would otherwise set the mean and the deviation of every dimension.
    """
    beyond = (np.abs(vectors) > _FLOAT32).any(axis=1)
    lengths = norms(vectors)
    usual = lengths[~beyond & (lengths > 0)]
    longest = _LONGEST * float(np.median(usual)) if len(usual) else np.inf
    found: NDArray[np.bool_] = beyond | (lengths > longest)
    return found
