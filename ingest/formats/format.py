"""What a body format is: a content type, a reader, and a description of the body."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from ingest.formats.parameters import Parameters
from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch

Reader = Callable[[bytes, Parameters, IngestSettings, float], Batch]
"""Reads a body with its parameters, under limits, at a time (seconds since the epoch).

Raises PayloadError, which names everything that is wrong, where, and what is allowed.
"""


@dataclass(frozen=True, slots=True)
class Format:
    """A format of the body of ``POST /embeddings``.

    Attributes
    ----------
    content_type : str
        Media type in lower case, without parameters.
    read : Reader
    schema : dict
        OpenAPI schema of the body.
    structs : tuple of Struct types
        What the schema refers to.
    inline_bytes : int
        Size of the longest body that the event loop may wait for. Longer ones are read in a
        thread.
    """

    content_type: str
    read: Reader
    schema: dict[str, Any]
    structs: tuple[type[msgspec.Struct], ...] = ()
    inline_bytes: int = 128 * 1024
