"""Parquet files, which a process of its own reads.

What comes out of a Parquet file is known only once it is decoded, and pyarrow ends its process at
some damaged ones. So a :class:`~ingest.formats.child.Child` reads them, within limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from ingest.files.table import Table
from ingest.formats import checks, columnar
from ingest.formats.child import Child
from ingest.formats.format import Format, Place
from ingest.formats.parameters import Parameters
from ingest.runtime.errors import BodyTooLarge, PayloadError
from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch

_MAGIC = b"PAR1"
"""How a file begins and ends."""
_MOST_MAGIC = 100_000
"""How often a body may have these bytes, each of which takes a microsecond to look at."""
_ROWS = 256
"""Rows that are read before it is known how much they take."""
_LENGTH_BYTES = 4
_METADATA = re.compile(rb"\x15.\x19", re.DOTALL)
"""How metadata begin: a version of one byte, and a list (Thrift's compact protocol)."""


def read(body: bytes, parameters: Parameters, limits: IngestSettings, now: float) -> Batch:
    """Read a file in this process."""
    return columnar.read(body, parameters, limits, now, _opened)


def _opened(body: bytes, limits: IngestSettings) -> Table:
    """Read a file, until too much comes out."""
    import pyarrow as pa
    from pyarrow import parquet

    from ingest.files.arrow import Batches

    _check_single(body)
    file = parquet.ParquetFile(pa.BufferReader(body))
    found = file.metadata
    checks.count(found.num_rows, limits)
    columnar.check_columns(file.schema_arrow, limits)
    groups = map(found.row_group, range(found.num_row_groups))
    if sum(group.total_byte_size for group in groups) > limits.max_body_bytes:
        raise _too_long(limits)
    some = _bounded(file.iter_batches(_ROWS, use_threads=False), limits)
    batches = pa.Table.from_batches(list(some)).combine_chunks().to_batches()
    return Batches(file.schema_arrow, columnar.checked(batches, limits))


def _check_single(body: bytes) -> None:
    """Refuse several files in one body, of which only the last one would be read.

    A file ends with metadata, their length and the magic bytes. If these three are anywhere before
    the end of the body, another file ends there. To account for each byte instead would refuse
    files of Spark, which pads row groups, and of writers that do not say how long a Bloom filter
    is.
    """
    if not body.startswith(_MAGIC):
        raise ValueError(f"it does not begin with {_MAGIC.decode()}")
    if (count := body.count(_MAGIC)) > _MOST_MAGIC:
        raise BodyTooLarge(
            f"the body has {_MAGIC.decode()}, which ends a file, {count} times; allowed are at"
            f" most {_MOST_MAGIC}"
        )
    at = body.find(_MAGIC, len(_MAGIC))
    while 0 <= at < len(body) - len(_MAGIC):
        length = int.from_bytes(body[at - _LENGTH_BYTES : at], "little")
        start = at - _LENGTH_BYTES - length
        if start >= len(_MAGIC) and _METADATA.match(body, start):
            raise PayloadError("the body has several Parquet files; send each by itself")
        at = body.find(_MAGIC, at + 1)


def _bounded(batches: Iterable[Any], limits: IngestSettings) -> Iterator[Any]:
    """Yield record batches until they take too much."""
    size = 0
    for batch in map(_plain, batches):
        size += batch.nbytes
        if size > limits.max_body_bytes:
            raise _too_long(limits)
        yield batch


def _plain(batch: Any) -> Any:
    """Return a record batch without dictionaries, of which each batch has its own."""
    import pyarrow as pa

    columns = [
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _too_long(limits: IngestSettings) -> BodyTooLarge:
    return BodyTooLarge(
        f"the body, decompressed, exceeds {limits.max_body_bytes} bytes (ingest.max_body_bytes)"
    )


CHILD = Child()
FORMAT = Format(
    "application/vnd.apache.parquet",
    CHILD.read,
    columnar.described("A Parquet file"),
    place=lambda _: Place.PROCESS,
)
