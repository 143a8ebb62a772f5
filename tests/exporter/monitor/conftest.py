"""Patience with a tail that polls late."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def patience() -> Iterator[pytest.MonkeyPatch]:
    """Let models count as followed long after a poll: a busy machine may let them wait.

    A test of what is late undoes it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("exporter.monitor.tail._LATE_SECONDS", 240.0)
        yield patch
