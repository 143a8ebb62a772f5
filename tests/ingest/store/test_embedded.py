"""The embedded server is found whatever the environment says of others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ingest.store import embedded
from ingest.store.pool import connect, open_async

SERVICE = "[other]\nhost=192.0.2.1\nport=1\nuser=other\ndbname=other\n"


def test_variables_of_libpq_lead_nowhere_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "services"
    file.write_text(SERVICE)
    with embedded.running(folder / "data") as string:
        for name, value in {
            "PGSERVICEFILE": str(file),
            "PGSERVICE": "other",
            "PGHOSTADDR": "192.0.2.1",
            "PGPORT": "1",
        }.items():
            monkeypatch.setenv(name, value)
        with connect(string) as connection:
            assert connection.info.user == "postgres"

        async def main() -> None:
            async with open_async(string, 1) as pool, pool.connection() as connection:
                assert connection.info.user == "postgres"

        asyncio.run(main())
