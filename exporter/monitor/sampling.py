"""Sampling: how much of its span a window holds, if that has more vectors than the window may hold.

At level j a window holds one vector of 2^j; see `ingest.store.changes.is_sampled`.
"""

from __future__ import annotations

import math

_FULL = 0.8
"""Share of its capacity that a window holds at most when its level is chosen. The rest is for
arrivals."""
SPARSE = 0.3
"""Share of its capacity below which a window can have a lower level."""


def level_for(vectors: int, capacity: int) -> int:
    """Return the level at which a window may hold a sample of the vectors of its span."""
    if vectors <= capacity:
        return 0
    return math.ceil(math.log2(vectors / (_FULL * capacity)))
