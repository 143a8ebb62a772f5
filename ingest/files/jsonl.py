"""Read JSON lines: each line is an object with one vector."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ingest.files.rows import Block, blocks, id_texts


class _Line(msgspec.Struct):
    """A line. Its other keys become metadata, too."""

    embedding: list[float]
    id: str | int | None = None
    metadata: dict[str, Any] | None = None


_LINE = msgspec.json.Decoder(_Line)
_KEYS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read(path: Path) -> Iterator[Block]:
    """Read objects with ``embedding`` and, optionally, ``id`` and ``metadata``."""
    with path.open("rb") as file:
        numbered = ((n, text) for n, text in enumerate(file, start=1) if text.strip())
        for block in blocks(numbered):
            lines = [_decode(text, number) for number, text in block]
            ids, metadata = zip(*((line.id, line.metadata or {}) for line in lines), strict=True)
            yield Block(
                [line.embedding for line in lines],
                [number for number, _ in block],
                id_texts(ids),
                metadata if any(metadata) else (),
            )


def _decode(text: bytes, number: int) -> _Line:
    try:
        line = _LINE.decode(text)
        others = {
            key: msgspec.json.decode(value)
            for key, value in _KEYS.decode(text).items()
            if key not in _Line.__struct_fields__
        }
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"line {number}: {error}") from error
    line.metadata = others | (line.metadata or {})
    return line
