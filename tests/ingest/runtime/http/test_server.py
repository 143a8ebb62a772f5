"""The server: its address, and signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Receive, Scope, Send

from ingest.runtime.errors import SettingsError
from ingest.runtime.http import server

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def _restored() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_port_0_listens_on_a_free_port() -> None:
    with server.listen("127.0.0.1", 0) as listener:
        host, port = listener.getsockname()
        assert host == "127.0.0.1"
        assert port > 0


def test_an_address_that_is_taken_is_an_error_that_names_the_settings() -> None:
    with server.listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"127\.0\.0\.1:{port} \(server\.host"):
            server.listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["bad..host", "a" * 80 + ".b", "256.1.1.1"])
def test_an_address_that_is_none_is_an_error(host: str) -> None:
    with pytest.raises(
        SettingsError, match=r"cannot listen on .*:0 \(server\.host, server\.port\)"
    ):
        server.listen(host, 0)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.usefixtures("_restored")
def test_a_signal_ends_the_program_so_that_resources_are_closed(number: signal.Signals) -> None:
    server.exit_on_signals()
    with pytest.raises(SystemExit) as ended:
        os.kill(os.getpid(), number)
    assert ended.value.code == 0


def test_an_application_that_does_not_start_ends_the_program_with_an_error() -> None:
    """Otherwise a supervisor takes it for a service that was stopped."""

    async def failing(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no broker"})

    with server.listen("127.0.0.1", 0) as listener, pytest.raises(SystemExit) as ended:
        server.Server(failing, listener, CollectorRegistry(), None, 60, 60).run()
    assert ended.value.code not in (0, None)
