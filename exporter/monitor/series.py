"""A series: the key under which everything about one window is kept and shown."""

from __future__ import annotations

from typing import NamedTuple


class Series(NamedTuple):
    """One window over the vectors of a model, or over a slice of them.

    Attributes
    ----------
    model_name, window : str
    slice : str
        ``key=value`` of the metadata that the vectors share; empty for all vectors of the model.
    """

    model_name: str
    window: str
    slice: str = ""
