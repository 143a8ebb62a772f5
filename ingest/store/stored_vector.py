"""What the store knows of a vector beside its components."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class StoredVector:
    """A stored vector without its components.

    Attributes
    ----------
    seq : int
        Its number.
    id : str or None
        The id that its client gave it.
    received_at : datetime
        When it arrived.
    embedded_at : datetime or None
        When it was made, as its client says.
    metadata : dict or None
    """

    seq: int
    id: str | None
    received_at: datetime
    embedded_at: datetime | None
    metadata: dict[str, Any] | None
