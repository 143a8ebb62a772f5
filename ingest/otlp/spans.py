"""Spans, whatever their encoding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ingest.formats import checks
from ingest.runtime.errors import BodyTooLarge
from ingest.runtime.settings.settings import IngestSettings

MOST_SPANS = 65_536
"""Spans of a request. Empty ones take some bytes each, and many times as much once decoded."""


class Attribute(Protocol):
    """The value of an attribute. It is decoded when it is asked for, because few are needed."""

    def plain(self) -> object:
        """Return the value as JSON has it: a scalar, list or dict.

        Raises
        ------
        ValueError
            If it cannot be decoded. The message says what is wrong with it.
        """

    def text(self) -> str | None:
        """Return the value if it is a text, else None."""

    def vector(self, limits: IngestSettings) -> NDArray[np.float32]:
        """Return a list of numbers as a vector, shape (d,). Numbers beyond float32 become infinite.

        Raises
        ------
        ValueError
            If it is not a list of numbers, or its length is not allowed. The message says so.
        """


@dataclass(frozen=True, slots=True)
class Span:
    """One span.

    Attributes
    ----------
    trace_id, span_id : str
        In hexadecimal, lower case.
    end : int or str
        When it ended, in nanoseconds since the epoch; 0 if unknown. A text that is no such number
        as it was written.
    attributes, resource : mapping of str to Attribute
        Attributes of the span, and of what made it.
    dropped : int
        Attributes that the sender left out, because there were too many.
    """

    trace_id: str
    span_id: str
    end: int | str
    attributes: Mapping[str, Attribute]
    resource: Mapping[str, Attribute]
    dropped: int


def too_many() -> BodyTooLarge:
    """Return the error for a request with more spans than allowed."""
    return BodyTooLarge(f"the request has more than {MOST_SPANS} spans; send fewer at a time")


def check_length(length: int, limits: IngestSettings) -> None:
    """Check the length of a list of numbers before it is decoded.

    Raises
    ------
    ValueError
        If no vector may have this dimension.
    """
    if (reason := checks.dimension(length, limits)) is not None:
        raise ValueError(reason)


def not_a_list(value: object) -> ValueError:
    """Return the error for a value that cannot be a vector."""
    return ValueError(f"is {checks.kind(value)}; it must be a list of numbers")


def not_a_number(value: object, at: int) -> ValueError:
    """Return the error for an element that cannot be a component."""
    return ValueError(f"component {at} is {checks.kind(value)}; components must be numbers")
