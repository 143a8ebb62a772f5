"""Definitions of metric families as data. The page, the docs and tests are derived from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Family:
    """A metric family.

    Attributes
    ----------
    name : str
        Full name as on the page, with its unit, and with ``_total`` for counters.
    type : {"gauge", "counter", "histogram"}
        Type in Prometheus.
    help : str
        One sentence, shown on the page and in the documentation.
    labels : tuple of str
        Label names, in order.
    """

    name: str
    type: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
