"""Send requests at a fixed rate, and measure each from the time at which it was due.

A connection of wrk waits for its answer before it sends again. So wrk sends less to a slow service,
which then looks better than it is.
"""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

import numpy as np
import uvloop


def latencies(
    url: str, request: bytes, rate: float, seconds: float, connections: int
) -> np.ndarray:
    """Send the same request ``rate`` times per second; return the seconds that each took.

    Raises
    ------
    RuntimeError
        If a request failed.
    """
    return np.array(uvloop.run(_paced(url, request, rate, seconds, connections)))


async def _paced(
    url: str, request: bytes, rate: float, seconds: float, connections: int
) -> list[float]:
    due: asyncio.Queue[float | None] = asyncio.Queue()
    took: list[float] = []
    clients = [asyncio.create_task(_client(url, request, due, took)) for _ in range(connections)]
    start = time.perf_counter()
    for number in range(int(rate * seconds)):
        moment = start + number / rate
        await asyncio.sleep(max(0.0, moment - time.perf_counter()))
        due.put_nowait(moment)
    for _ in clients:
        due.put_nowait(None)
    await asyncio.gather(*clients)
    return took


async def _client(
    url: str, request: bytes, due: asyncio.Queue[float | None], took: list[float]
) -> None:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    while (moment := await due.get()) is not None:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
            raise RuntimeError(head.decode())
        took.append(time.perf_counter() - moment)
    writer.close()
