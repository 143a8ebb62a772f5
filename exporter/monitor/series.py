"""A series: the name of a window's snapshot and of its rows in the history.

Inside one model's standing, the name of the window is enough.
"""

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
