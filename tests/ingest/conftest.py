"""A service that keeps what it is sent, and a network before it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ingest.network import Network, Shelf, forwarded, listening
from tests.service import serving


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def network(shelf: Shelf) -> Iterator[Network]:
    with listening(Network(shelf)) as network:
        yield network


@pytest.fixture
def real(folder: Path, store: str) -> Iterator[Network]:
    """The real ingest half on the store, a network before it."""
    config = folder / "config.yaml"
    config.write_text(f'server: {{port: 0}}\ndatabase: {{connection_string: "{store}"}}\n')
    with serving(config, "ingest") as service, listening(Network(forwarded(service.url))) as front:
        yield front
