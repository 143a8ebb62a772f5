"""Three vectors with ids and texts, and the rows that a file of them has."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ingest.files.reader import read
from ingest.files.rows import Rows

VECTORS = np.array([[1, 2.5], [3, 4], [5, -6]], np.float32)
IDS = ["a", "b", "c"]
TEXTS = ["one", "two", "three"]


def whole(path: Path) -> Rows:
    """All rows of a file."""
    blocks = list(read(path))
    return Rows(
        np.concatenate([block.vectors for block in blocks]),
        [id_ for block in blocks for id_ in block.ids],
        [item for block in blocks for item in block.metadata],
    )
