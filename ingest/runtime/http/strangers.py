"""Strangers: connections of which no request was admitted yet."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import Counter, deque
from collections.abc import Callable, Coroutine

_GRACE_SECONDS = 1.0
_GRACE_FOR_FEWER_SECONDS = 0.1
_NETWORK_BYTES = 8
"""Of an IPv6 address. Its rest is the choice of one client."""


class Strangers:
    """Connections of which no request was admitted yet.

    Only some are open at a time, so that together they hold little memory. Others wait, and nothing
    is read of them. A client that sends its request at once is admitted within milliseconds, so
    hundreds that connect at the same time are served soon.

    Addresses share the room: next is a client of the address that has the fewest open. While
    others wait, the oldest of the address that has the most is closed: after a second, or after a
    tenth of it for an address that has fewer.

    Parameters
    ----------
    welcome : callable
        Serves a client until it is admitted or lost.
    limit : int
        Connections that are open at the same time.
    waiting : int
        Connections that wait at the same time. Of more, the address that has the most of them loses
        its oldest.
    closed : callable
        Is called with the reason when a connection is closed for others.
    """

    def __init__(
        self,
        welcome: Callable[[socket.socket], Coroutine[None, None, None]],
        limit: int,
        waiting: int,
        closed: Callable[[str], object],
    ) -> None:
        self._welcome = welcome
        self._limit = limit
        self._most_waiting = waiting
        self._closed = closed
        # Dictionaries keep the order, and remove quickly.
        self._open: dict[asyncio.Task[None], tuple[str, float]] = {}
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[socket.socket]] = {}
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_crowded(self) -> bool:
        """Whether as many wait as may."""
        return self._count >= self._most_waiting

    def add(self, client: socket.socket, address: str) -> None:
        """Serve a client as soon as there is room."""
        self._waiting.setdefault(network(address), deque()).append(client)
        self._count += 1
        self._fill()
        if self._count > self._most_waiting:
            largest = max(self._waiting, key=lambda place: len(self._waiting[place]))
            self._next_of(largest).close()
            self._closed("waiting")

    def close(self) -> None:
        """Close the connections that wait."""
        while self._waiting:
            self._next_of(next(iter(self._waiting))).close()
        self._fill()

    def _fill(self) -> None:
        """Open as many connections as there is room for; look again when the next must go."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            place = min(self._waiting, key=self._held.__getitem__)
            if len(self._open) >= self._limit and (left := self._make_room(place)) > 0:
                self._timer = asyncio.get_running_loop().call_later(left, self._fill)
                return
            task = asyncio.create_task(self._welcome(self._next_of(place)))
            self._open[task] = place, asyncio.get_running_loop().time()
            self._held[place] += 1
            task.add_done_callback(self._leave)

    def _next_of(self, place: str) -> socket.socket:
        client = self._waiting[place].popleft()
        self._count -= 1
        if not self._waiting[place]:
            del self._waiting[place]
        return client

    def _make_room(self, place: str) -> float:
        """Close the oldest connection of the address that has the most, for one of ``place``.

        Returns
        -------
        float
            Seconds that it may still stay; 0 if it was closed.
        """
        [(largest, held)] = self._held.most_common(1)
        task, since = next((task, at) for task, (of, at) in self._open.items() if of == largest)
        is_fairer = self._held[place] + 1 < held
        grace = _GRACE_FOR_FEWER_SECONDS if is_fairer else _GRACE_SECONDS
        left = since + grace - asyncio.get_running_loop().time()
        if left <= 0:
            task.cancel()
            self._forget(task)
            self._closed("not_admitted")
        return max(0.0, left)

    def _leave(self, task: asyncio.Task[None]) -> None:
        if task in self._open:
            self._forget(task)
            self._fill()

    def _forget(self, task: asyncio.Task[None]) -> None:
        place, _ = self._open.pop(task)
        self._held[place] -= 1
        if not self._held[place]:
            del self._held[place]


def network(address: str) -> str:
    """Return what the address of a client has in common with others that it could have.

    That is a network of 64 bits for IPv6.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or found.packed[:_NETWORK_BYTES].hex())
