"""Sampling: how much of its span a window holds, if that has more vectors than the window may hold.

See `ingest.store.changes.is_sampled` for the levels of a sample.
"""

from __future__ import annotations

from ingest.store.changes import sampled_ratio

_FULL = 0.9
"""Share of its capacity that a window holds at most when its level is chosen. The rest is for
arrivals."""
SPARSE = 0.5
"""Share of its capacity below which a window can have a lower level."""


def level_for(vectors: int, capacity: int) -> int:
    """Return the level at which a window may hold a sample of the vectors of its span."""
    if vectors <= capacity:
        return 0
    level = 1
    while vectors * sampled_ratio(level) > _FULL * capacity:
        level += 1
    return level
