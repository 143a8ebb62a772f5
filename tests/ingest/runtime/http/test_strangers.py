"""Strangers: how many are open, which is next, and which must go."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack

import pytest

from ingest.runtime.http import strangers
from ingest.runtime.http.strangers import Strangers, network

FLOOD, SCRAPE = "192.0.2.1", "192.0.2.2"


class Crowd:
    """Clients by name, which are served until they are admitted."""

    def __init__(self, stack: ExitStack, limit: int, waiting: int = 100) -> None:
        self._stack = stack
        self._names: dict[socket.socket, str] = {}
        self._admitted: dict[str, asyncio.Event] = {}
        self.open: list[str] = []
        self.ended: list[str] = []
        self.reasons: list[str] = []
        self.strangers = Strangers(self._welcome, limit, waiting, self.reasons.append)

    def come(self, name: str, address: str = FLOOD) -> socket.socket:
        ours, theirs = socket.socketpair()
        self._stack.enter_context(theirs)
        self._stack.callback(ours.close)
        self._names[ours] = name
        self._admitted[name] = asyncio.Event()
        self.strangers.add(ours, address)
        return theirs

    def admit(self, name: str) -> None:
        self._admitted[name].set()

    async def _welcome(self, client: socket.socket) -> None:
        name = self._names[client]
        self.open.append(name)
        try:
            await self._admitted[name].wait()
        finally:
            self.open.remove(name)
            self.ended.append(name)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < 240
        await asyncio.sleep(0.005)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to go for the time that a stranger was open, only for its share."""
    monkeypatch.setattr(strangers, "_GRACE_SECONDS", 3_600.0)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await main()
        # A cancelled task may let a client that waits begin.
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(whole())


@pytest.mark.usefixtures("patient")
def test_one_more_waits_until_another_is_admitted(stack: ExitStack) -> None:
    async def main() -> None:
        crowd = Crowd(stack, limit=2)
        for name in ("first", "second", "third"):
            crowd.come(name)
        await until(lambda: crowd.open == ["first", "second"])
        await asyncio.sleep(0.05)
        assert crowd.open == ["first", "second"]
        crowd.admit("second")
        await until(lambda: crowd.open == ["first", "third"])
        assert crowd.reasons == []

    run(main)


def test_the_oldest_goes_when_it_had_its_time_and_only_if_others_wait(stack: ExitStack) -> None:
    async def main() -> None:
        crowd = Crowd(stack, limit=2)
        start = time.monotonic()
        for name in ("first", "second", "third"):
            crowd.come(name)
        await until(lambda: crowd.ended == ["first"])
        assert time.monotonic() - start >= 0.9
        await until(lambda: crowd.open == ["second", "third"])
        await asyncio.sleep(1.2)
        assert crowd.ended == ["first"]
        assert crowd.reasons == ["not_admitted"]

    run(main)


@pytest.mark.usefixtures("patient")
def test_an_address_with_fewer_connections_is_next_and_need_not_wait_long(stack: ExitStack) -> None:
    async def main() -> None:
        crowd = Crowd(stack, limit=4)
        for number in range(50):
            crowd.come(f"flood {number}")
        crowd.come("scrape", SCRAPE)
        await until(lambda: "scrape" in crowd.open)
        assert crowd.ended == ["flood 0"]

    run(main)


@pytest.mark.usefixtures("patient")
def test_too_many_that_wait_are_closed_where_they_are_most(stack: ExitStack) -> None:
    async def main() -> None:
        crowd = Crowd(stack, limit=1, waiting=3)
        crowd.come("open")
        scrape = crowd.come("scrape", SCRAPE)
        waiting = [crowd.come(f"flood {number}") for number in range(4)]
        assert crowd.strangers.is_crowded
        for client in (scrape, *waiting):
            client.setblocking(False)
        assert [client.recv(1) for client in waiting[:2]] == [b"", b""]
        for client in (scrape, *waiting[2:]):
            with pytest.raises(BlockingIOError):
                client.recv(1)
        assert crowd.reasons == ["waiting", "waiting"]
        crowd.strangers.close()
        assert scrape.recv(1) == b""
        assert not crowd.strangers.is_crowded

    run(main)


def test_an_ipv6_network_counts_as_one_client_and_a_mapped_address_as_its_own() -> None:
    assert network("2001:db8::1") == network("2001:db8::ffff:2") != network("2001:db8:0:1::1")
    assert network("fe80::1%eth0") == network("fe80::2")
    assert network("::ffff:192.0.2.1") == network("192.0.2.1") == "192.0.2.1"
