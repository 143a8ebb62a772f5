"""Design effect: how much less a sample is worth if alike members arrive together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def design_effect(of: NDArray[np.intp], length: int) -> float:
    """Return by how much the counts of clusters vary more than those of independent vectors.

    The variances of the counts in blocks of arrival are added up over all clusters, and so are
    those of a multinomial distribution. Counts that are divided by their ratio may be tested as if
    vectors were independent (Rao, Scott 1981).

    Parameters
    ----------
    of : ndarray of intp, shape (n,)
        Cluster of each vector, in the order of arrival.
    length : int
        Vectors of a block. It should hold whole sessions, interleaved ones too.

    Returns
    -------
    float
        At least 1; 1 too if there are fewer than two blocks, or a single cluster.
    """
    length = max(length, 1)
    blocks = len(of) // length
    if blocks < 2:
        return 1.0
    clusters = int(of.max()) + 1
    block = np.arange(blocks * length) // length
    cell = block * clusters + of[: blocks * length]
    counts = np.bincount(cell, minlength=blocks * clusters).reshape(blocks, clusters)
    share = counts.mean(axis=0) / length
    expected = length * float((share * (1 - share)).sum())
    return max(float(counts.var(axis=0, ddof=1).sum()) / expected, 1.0) if expected > 0 else 1.0
