"""The transport that gathers what is written in one turn of the loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from ingest.runtime.http.transport import GatheringTransport

Body = Callable[[GatheringTransport, socket.socket], Awaitable[None]]


def run(body: Body) -> None:
    """Run with a transport over one end of a pair of sockets, and the other end."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        with theirs:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            gathering = GatheringTransport(transport, loop)
            await body(gathering, theirs)
            gathering.close()

    uvloop.run(main())  # asyncio's own transports swallow what is written after the end


def test_what_is_written_in_one_turn_is_sent_at_its_end() -> None:
    async def body(transport: GatheringTransport, theirs: socket.socket) -> None:
        transport.write(b"head ")
        transport.write(bytearray(b"body"))
        with pytest.raises(BlockingIOError):
            theirs.recv(100)
        await asyncio.sleep(0)
        assert theirs.recv(100) == b"head body"

    run(body)


def test_what_is_written_before_the_end_is_sent_before_it() -> None:
    async def body(transport: GatheringTransport, theirs: socket.socket) -> None:
        transport.write(b"last")
        transport.close()
        assert transport.is_closing()
        await asyncio.sleep(0)
        assert theirs.recv(100) == b"last"
        assert theirs.recv(100) == b""

    run(body)


def test_what_is_written_after_the_end_goes_nowhere() -> None:
    async def body(transport: GatheringTransport, theirs: socket.socket) -> None:
        transport.close()
        transport.write(b"late")
        await asyncio.sleep(0)
        assert theirs.recv(100) == b""

    run(body)
