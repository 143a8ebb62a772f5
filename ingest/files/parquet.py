"""Read Parquet files: a column of lists of numbers, and columns of metadata."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ingest.files.rows import BLOCK, EMBEDDING, Block, ids_and_metadata


def read(path: Path) -> Iterator[Block]:
    """Read the column ``embedding``, or the only column of lists of numbers."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(
            "needs pyarrow: pip install 'embedding-drift-exporter[parquet]'"
        ) from error

    def is_vectors(kind: pa.DataType) -> bool:
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        if not (is_list or pa.types.is_fixed_size_list(kind)):
            return False
        return bool(pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))

    with parquet.ParquetFile(path) as file:
        lists = [field.name for field in file.schema_arrow if is_vectors(field.type)]
        if EMBEDDING not in lists and len(lists) != 1:
            raise ValueError(
                f"needs a column {EMBEDDING!r} of lists of numbers, or only one such column"
            )
        name = EMBEDDING if EMBEDDING in lists else lists[0]
        first = 0
        for batch in file.iter_batches(BLOCK):
            vectors = batch[name].to_numpy(zero_copy_only=False).tolist()
            numbers = range(first, first + len(vectors))
            for number, vector in zip(numbers, vectors, strict=True):
                if vector is None:
                    raise ValueError(f"row {number} has no vector")
            others = [other for other in batch.schema.names if other != name]
            columns = {other: batch[other].to_pylist() for other in others}
            yield Block(vectors, numbers, *ids_and_metadata(columns))
            first += len(vectors)
