"""Raw bodies: little-endian float32, row after row."""

from __future__ import annotations

import numpy as np

from ingest.formats import checks, npy
from ingest.formats.format import Format
from ingest.formats.parameters import Parameters
from ingest.runtime.errors import PayloadError
from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch


def read(body: bytes, parameters: Parameters, limits: IngestSettings, now: float) -> Batch:
    """Read raw rows. A body that starts as an ``.npy`` file is read as one."""
    if body.startswith(npy.MAGIC):
        return npy.read(body, parameters, limits, now)
    name = parameters.checked_model_name()
    dimension = parameters.checked_dimension(limits)
    if dimension is None:
        raise PayloadError("the dimension is missing: give header X-Dimension or query dimension")
    count, rest = divmod(len(body), 4 * dimension)
    if rest:
        raise PayloadError(
            f"the body of {len(body)} bytes is truncated: a vector of dimension {dimension} takes"
            f" {4 * dimension} bytes, and the last one lacks {4 * dimension - rest}"
        )
    checks.count(count, limits)
    vectors = np.frombuffer(body, "<f4").reshape(count, dimension)
    checks.require_finite(vectors)
    return Batch(name, vectors)


FORMAT = Format(
    "application/octet-stream",
    read,
    {
        "type": "string",
        "format": "binary",
        "description": (
            "Little-endian float32, row after row. A body that starts as a `.npy` file is read as"
            " one."
        ),
    },
    has_parameters=True,
    inline_bytes=1024 * 1024,
)
