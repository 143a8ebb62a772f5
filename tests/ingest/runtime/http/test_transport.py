"""A transport's closing, and timers."""

from __future__ import annotations

import asyncio
import weakref

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


def test_what_is_written_after_closing_is_dropped_and_the_closing_reported() -> None:
    recorder = Recorder()
    transport = Transport(recorder, lambda: recorder.told.append("reported"))
    transport.write(b"before")
    transport.close()
    transport.write(b"after")
    assert recorder.told == ["before", "reported", "close"]


def test_a_lost_transport_is_freed_at_once_and_counts_as_closed() -> None:
    recorder = Recorder()
    transport = Transport(recorder, lambda: None)
    freed = weakref.ref(recorder)
    del recorder
    transport.lost()
    assert freed() is None
    transport.write(b"after")
    transport.close()
    transport.abort()
    assert transport.is_closing()


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
