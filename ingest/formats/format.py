"""What a body format is: a content type, a reader, and a description of the body."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

from ingest.formats.parameters import Parameters
from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch

Reader = Callable[[bytes, Parameters, IngestSettings, float], Batch]
"""Reads a body with its parameters, under limits, at a time (seconds since the epoch).

Raises PayloadError, which names everything that is wrong, where, and what is allowed.
"""


class Place(Enum):
    """Where a body is read."""

    LOOP = "in the event loop"
    THREAD = "in a thread"
    PROCESS = "in a process of its own, for which a thread waits"


def up_to(size: int) -> Callable[[bytes], Place]:
    """Make a function that has bodies of at most ``size`` bytes read in the event loop."""
    return lambda body: Place.LOOP if len(body) <= size else Place.THREAD


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
    place : callable
        Tells where to read a body: in the event loop only if it may wait for that.
    structs : tuple of Struct types
        What the schema refers to.
    """

    content_type: str
    read: Reader
    schema: dict[str, Any]
    place: Callable[[bytes], Place]
    structs: tuple[type[msgspec.Struct], ...] = ()
