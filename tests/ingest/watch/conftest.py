"""The store and the table of the tests that follow a table."""

from __future__ import annotations

import pytest

from tests.ingest.watch.bench import Bench
from tests.postgresql import Application


@pytest.fixture
def bench(application: Application, store: str) -> Bench:
    return Bench(store, application=application)
