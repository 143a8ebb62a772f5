"""Three vectors with ids and texts, and the rows that files of them have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingest.files.columns import Options
from ingest.files.reader import SUFFIXES, Dimensions, opened
from ingest.files.source import Source

VECTORS = np.array([[1, 2.5], [3, 4], [5, -6]], np.float32)
IDS = ["a", "b", "c"]
TEXTS = ["one", "two", "three"]


class Whole(NamedTuple):
    """All rows of some files."""

    vectors: NDArray[np.float32]
    ids: Sequence[str | None]
    times: Sequence[float]
    models: Sequence[str | None]
    metadata: Sequence[Any]
    faults: Sequence[str]


def whole(place: Path | str, **options: Any) -> Whole:
    """Read all rows of a file, folder or pattern; faults begin after the file's name."""
    source = Source.find(str(place), SUFFIXES)
    dimensions = Dimensions()
    blocks = []
    for file in source.files:
        with opened(source, file, Options(**options)) as content:
            for part in range(content.parts):
                blocks += list(content.rows(part, dimensions=dimensions))
    full = [block for block in blocks if len(block)]
    return Whole(
        np.concatenate([block.vectors for block in full]) if full else np.empty((0, 0), "f4"),
        [id_ for block in full for id_ in block.ids],
        [time for block in full for time in block.times.tolist()],
        [name for block in full for name in block.models],
        [item for block in full for item in block.metadata],
        [str(fault).partition(": ")[2] for block in blocks for fault in block.faults],
    )
