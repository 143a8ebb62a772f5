"""Raw bodies: little-endian numbers, row after row."""

from __future__ import annotations

from ingest.files import dtypes
from ingest.formats import checks, npy
from ingest.formats.format import Format, up_to
from ingest.formats.parameters import Parameters
from ingest.runtime.errors import PayloadError, Problem
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
    named = parameters.checked_dtype()
    dtype = named or dtypes.FLOAT32
    size = dtypes.SIZES[dtype] * dimension
    count, rest = divmod(len(body), size)
    if rest:
        raise PayloadError(
            f"the body of {len(body)} bytes is truncated: a vector of dimension {dimension} takes"
            f" {size} bytes as {dtype}, and the last one lacks {size - rest}"
        )
    checks.count(count, limits)
    if (reason := dtypes.doubt(body, named)) is not None:
        raise checks.refuse([Problem("/embeddings/0", reason, 0)])
    vectors = dtypes.read(body, dtype).reshape(count, dimension)
    checks.require_finite(vectors)
    return Batch(name, vectors)


FORMAT = Format(
    "application/octet-stream",
    read,
    {
        "type": "string",
        "format": "binary",
        "description": (
            "Little-endian numbers, float32 unless `dtype` names another type, row after row. A"
            " body that starts as a `.npy` file is read as one."
        ),
    },
    place=up_to(1024 * 1024),
)
