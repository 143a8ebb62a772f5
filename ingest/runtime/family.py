"""The definition of a metric family as data, from which pages, tables and tests follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Family:
    """A metric family.

    Attributes
    ----------
    name : str
        Full name as on the page, with unit and, for counters, ``_total``.
    type : {"gauge", "counter", "histogram"}
        The type declared to Prometheus.
    help : str
        One sentence, shown on the page and in the documentation.
    labels : tuple of str
        Label names, in order.
    """

    name: str
    type: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
