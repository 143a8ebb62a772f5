"""Messages of Arrow's IPC format: what their metadata tell before anything is read.

Metadata are tables of FlatBuffers, as Message.fbs of Arrow has them.
"""

from __future__ import annotations

import struct

_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
"""Types of messages."""
_MESSAGE_VALUES = 10
_SCHEMA_BYTES_PER_VALUE = 32
_MANY = 2**63


def is_compressed(metadata: memoryview) -> bool:
    """Return whether a message has compressed buffers."""
    batch = _batch(metadata)
    return batch is not None and _field(metadata, batch, 3) is not None


def values(metadata: memoryview) -> int:
    """Return about how many values a message has. The components of a vector are one.

    A message itself counts as some, and so does a column in the schema: they take time, too.
    """
    batch = _batch(metadata)
    if batch is None:
        return _MESSAGE_VALUES + len(metadata) // _SCHEMA_BYTES_PER_VALUE
    # Rows may share the values of dictionaries and views, so these hold more than they seem to.
    if _kind(metadata) == _DICTIONARY_BATCH or _field(metadata, batch, 4) is not None:
        return _MANY
    rows, columns = _field(metadata, batch, 0), _field(metadata, batch, 1)
    if rows is None or columns is None:
        return _MESSAGE_VALUES
    (length,) = struct.unpack_from("<q", metadata, rows)
    count = _offset(metadata, columns + _offset(metadata, columns))
    # A negative length must not make up for that of another message.
    return _MESSAGE_VALUES + max(0, int(length)) * count


def _kind(metadata: memoryview) -> int:
    kind = _field(metadata, _root(metadata), 1)
    return 0 if kind is None else metadata[kind]


def _batch(metadata: memoryview) -> int | None:
    """Return where the table of a record batch is, also of the one in a dictionary batch."""
    kind, header = _kind(metadata), _field(metadata, _root(metadata), 2)
    if header is None or kind not in (_DICTIONARY_BATCH, _RECORD_BATCH):
        return None
    batch = header + _offset(metadata, header)
    if kind == _RECORD_BATCH:
        return batch
    data = _field(metadata, batch, 1)
    return None if data is None else data + _offset(metadata, data)


def _root(data: memoryview) -> int:
    return _offset(data, 0)


def _offset(data: memoryview, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


def _field(data: memoryview, table: int, slot: int) -> int | None:
    """Return where a field of a table is; None if it is absent."""
    virtual = table - struct.unpack_from("<i", data, table)[0]
    size = struct.unpack_from("<H", data, virtual)[0]
    if 4 + 2 * slot >= size:
        return None
    offset = struct.unpack_from("<H", data, virtual + 4 + 2 * slot)[0]
    return table + offset if offset else None
