"""A transport's closing and pieces, and timers."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable

from ingest.runtime.http.transport import Timer, Transport


class Recorder(asyncio.Transport):
    """A transport that records what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.told.append(bytes(data).decode())

    def close(self) -> None:
        self.told.append("close")

    def is_closing(self) -> bool:
        return "close" in self.told


def run(use: Callable[[Transport], None]) -> list[str]:
    """Use a transport in a turn of the loop, and return what it told then and in the next."""
    recorder = Recorder()

    async def main() -> None:
        use(Transport(recorder, lambda: recorder.told.append("reported")))
        recorder.told.append("turn")
        await asyncio.sleep(0)

    asyncio.run(main())
    return recorder.told


def test_what_is_written_after_closing_is_dropped_and_the_closing_reported() -> None:
    def use(transport: Transport) -> None:
        transport.write(b"before")
        transport.close()
        transport.write(b"after")

    assert run(use) == ["before", "reported", "close", "turn"]


def test_the_head_and_the_body_of_an_answer_are_sent_at_once() -> None:
    def use(transport: Transport) -> None:
        for answer in ("one", "two"):
            transport.write(f"head of {answer}, ".encode())
            transport.write(f"body of {answer}".encode())

    assert run(use) == ["head of one, body of one", "head of two, body of two", "turn"]


def test_a_head_without_a_body_is_sent_in_the_next_turn() -> None:
    assert run(lambda transport: transport.write(b"head")) == ["turn", "head"]


def test_a_long_piece_does_not_wait_for_another() -> None:
    assert run(lambda transport: transport.write(b"x" * 100_000)) == ["x" * 100_000, "turn"]


def test_a_long_body_is_not_copied_behind_the_head() -> None:
    def use(transport: Transport) -> None:
        transport.write(b"head")
        transport.write(b"x" * 100_000)

    assert run(use) == ["head", "x" * 100_000, "turn"]


def test_a_piece_that_waits_may_be_used_again() -> None:
    def use(transport: Transport) -> None:
        piece = bytearray(b"head")
        transport.write(piece)
        piece[:] = b"else"

    assert run(use) == ["turn", "head"]


def test_a_lost_transport_is_freed_at_once_and_counts_as_closed() -> None:
    async def main() -> None:
        recorder = Recorder()
        transport = Transport(recorder, lambda: None)
        transport.write(b"before")
        freed = weakref.ref(recorder)
        del recorder
        transport.lost()
        assert freed() is None
        transport.write(b"after")
        transport.close()
        transport.abort()
        assert transport.is_closing()

    asyncio.run(main())


def test_a_timer_calls_once_unless_it_is_stopped() -> None:
    async def main() -> list[str]:
        called: list[str] = []
        kept, stopped = (
            Timer(0.02, lambda: called.append("kept")),
            Timer(0.02, lambda: called.append("stopped")),
        )
        for timer in (kept, kept, stopped):
            timer.start()
        stopped.stop()
        await asyncio.sleep(0.06)
        return called

    assert asyncio.run(main()) == ["kept"]
