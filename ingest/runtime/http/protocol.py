"""HTTP/1.1 for clients that cannot be trusted to finish what they begin."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ingest.runtime.http.transport import GatheringTransport

_LONGEST_HEAD_BYTES = 64 * 1024
"""Neither uvicorn nor httptools ends a head that never ends."""


def protocol(read_timeout: float) -> type[HttpToolsProtocol]:
    """Make uvicorn's protocol with limits to the time and size of a request's head.

    Parameters
    ----------
    read_timeout : float
        Seconds from the connection, or from a later request's first byte, to the head's end.
    """

    class Protocol(HttpToolsProtocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._head_bytes = 0
            self._deadline: asyncio.TimerHandle | None = None
            self._is_in_head = True
            self._answering: RequestResponseCycle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(GatheringTransport(transport, self.loop))
            self._deadline = self.loop.call_later(read_timeout, self._give_up)

        def data_received(self, data: bytes) -> None:
            was_in_head, before = self._is_in_head, self.cycle
            super().data_received(data)
            if self._is_in_head or self.cycle is None or self.cycle.response_complete:
                is_all_head = was_in_head and self.cycle is before
                self._wait_for_head(len(data) if is_all_head else 0)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._is_in_head = True

        def on_headers_complete(self) -> None:
            self._is_in_head = False
            self._head_bytes = 0
            self._stop_waiting()
            super().on_headers_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)
            # uvicorn tells the last request that came, but one before it may be answered just now.
            if self._answering is not None and not self._answering.response_complete:
                self._answering.disconnected = True
                self._answering.message_event.set()

        def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
            self._answering = cycle
            super()._start_asgi_task(cycle, app)

        def _unsupported_upgrade_warning(self) -> None:
            """Say nothing: the request is answered as if it had not asked to be upgraded."""

        def _wait_for_head(self, more: int) -> None:
            # uvicorn stops waiting at the first byte, whatever it is.
            self._head_bytes += more
            if self._head_bytes > _LONGEST_HEAD_BYTES:
                self.transport.close()
            elif self._deadline is None:
                self._deadline = self.loop.call_later(read_timeout, self._give_up)

        def _stop_waiting(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _give_up(self) -> None:
            self.transport.close()

    return Protocol
