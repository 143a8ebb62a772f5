"""Read and count the losses that a client reports in the header ``X-Client-Lost``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ingest.formats import checks
from ingest.pipeline.metrics import IngestMetrics
from ingest.runtime.errors import Problem

HEADER = "X-Client-Lost"
MOST = 10**12
"""The largest number of vectors that a client may report as lost."""
_COUNT = "(0|[1-9][0-9]{0,11}|1000000000000)"
PATTERN = f"^dropped={_COUNT}, failed={_COUNT}$"


class Losses(NamedTuple):
    """Vectors that a client lost since its last report."""

    dropped: int = 0
    failed: int = 0

    def add_to(self, metrics: IngestMetrics, model_name: str) -> None:
        """Add the losses to the metrics of a model."""
        metrics.add_losses(model_name, self._asdict())


def parse(headers: Mapping[str, str]) -> Losses:
    """Read the header; without it, nothing is lost.

    Parameters
    ----------
    headers : mapping
        By lower-case name.

    Raises
    ------
    PayloadError
        If the header does not have the form of `PATTERN`.
    """
    value = headers.get(HEADER.lower())
    if value is None:
        return Losses()
    found = re.fullmatch(PATTERN, value)
    if found is None:
        reason = (
            f"{value[:80]!r} is not allowed; allowed is 'dropped=N, failed=N', each N a whole"
            f" number from 0 to {MOST}"
        )
        raise checks.refuse([Problem(HEADER, reason)])
    return Losses(*map(int, found.groups()))
