"""Client: sends the vectors of a running program in the background.

Of an answer of an OpenAI-style API, and of a model of sentence-transformers::

    client.add([d.embedding for d in response.data])
    client.add(model.encode(texts))

Neither a service that is away nor a bad vector disturbs the program: what cannot be sent is
counted and logged, and ``add`` never waits.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from numpy.typing import ArrayLike

from ingest import intake
from ingest.backlog import Backlog
from ingest.runtime.errors import Undelivered
from ingest.sender import Answer, AsyncSender, Sender

_log = logging.getLogger(__name__)

_ATTEMPTS = 30
"""About a quarter of an hour: an upgrade of the service loses nothing the queue has room for."""
_QUEUE_BYTES = 256 * 1024 * 1024
_EXIT_SECONDS = 4.0
_GRACE_SECONDS = 1.0

Ids = Sequence[object] | str | None
Metadata = Sequence[Mapping[str, Any] | None] | Mapping[str, Any] | None
Timestamps = Sequence[float | datetime | None] | float | datetime | None


class _Counted:
    """What became of the vectors."""

    _backlog: Backlog

    @property
    def added(self) -> int:
        """Vectors handed to ``add``: the sum of all the other counts."""
        return self._backlog.added

    @property
    def sent(self) -> int:
        """Vectors that the service took."""
        return self._backlog.sent

    @property
    def duplicates(self) -> int:
        """Vectors that the service had stored before, by their ids."""
        return self._backlog.duplicates

    @property
    def dropped(self) -> int:
        """Vectors for which the queue had no room, or that still waited when it was closed."""
        return self._backlog.dropped

    @property
    def failed(self) -> int:
        """Vectors that are invalid, that the service refused, or that did not reach it."""
        return self._backlog.failed

    @property
    def waiting(self) -> int:
        """Vectors that are queued or on their way."""
        return self._backlog.waiting


class Client(_Counted):
    """Sends vectors of one model from a thread of its own; a context manager.

    ::

        with Client("http://127.0.0.1:10910", "my-model") as client:
            client.add(vectors)

    The thread starts with the first vector. What waits when the interpreter exits is sent within
    about 5 seconds or dropped; a process that ends otherwise (by a signal nobody handles, or by
    ``os._exit`` as children of ``multiprocessing`` do) loses it without :meth:`close`. After a
    fork the child begins with an empty queue and counts from 0: what waited is its parent's.

    Parameters
    ----------
    url : str
        Where the service listens.
    model_name : str
    token : str, optional
        Bearer token with the scope ``write``.
    verify : path, optional
        File of the certificates to trust, in place of the system's.
    batch_size : int
        Vectors that wait before a batch is sent, and the most that one request has.
    interval : float
        Seconds after which vectors are sent though they are fewer.
    max_queue_vectors : int
        Vectors that may wait; the newest beyond are dropped.
    max_queue_bytes : int
        Bytes that they may take: 4 a component, and those of ids and metadata.
    raise_errors : bool
        Whether :meth:`add`, :meth:`flush` and :meth:`close` raise what they otherwise only count
        and log.

    Raises
    ------
    SettingsError, PayloadError
        If a parameter cannot be used.
    """

    def __init__(
        self,
        url: str,
        model_name: str,
        *,
        token: str | None = None,
        verify: str | os.PathLike[str] | None = None,
        batch_size: int = 500,
        interval: float = 1.0,
        max_queue_vectors: int = 10_000,
        max_queue_bytes: int = _QUEUE_BYTES,
        raise_errors: bool = False,
    ) -> None:
        self._new_backlog = partial(
            Backlog, batch_size, interval, max_queue_vectors, max_queue_bytes, raise_errors
        )
        self._new_sender: Callable[[], Sender] = partial(
            Sender,
            url,
            model_name,
            token=token,
            verify=verify,
            attempts=_ATTEMPTS,
            sleep=self._pause,
        )
        self._begin()
        _clients.add(self)

    def _begin(self) -> None:
        self._backlog = self._new_backlog()
        self._sender = self._new_sender()
        self._changed = threading.Condition()
        self._abandoned = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(
        self,
        vectors: ArrayLike,
        ids: Ids = None,
        metadata: Metadata = None,
        timestamps: Timestamps = None,
    ) -> None:
        """Queue vectors to be sent; returns at once.

        Parameters
        ----------
        vectors : array_like, shape (d,) or (n, d)
            One vector, or many.
        ids, metadata, timestamps : sequence of n, optional
            What stands beside each vector; None where one has none. Beside one vector they need
            not be in a sequence. Timestamps are seconds since the epoch or aware datetimes.

        Raises
        ------
        MonitorError
            With ``raise_errors`` only, and then nothing of this call is queued: PayloadError for
            vectors that cannot be sent, QueueFull, or what became of an earlier batch.
        """
        given = intake.read(vectors, ids, metadata, timestamps)
        with self._changed:
            self._backlog.add(given)
            if self._thread is None and self._backlog.waiting:
                self._start()
            self._changed.notify_all()

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until all that was added is sent or has failed.

        Parameters
        ----------
        timeout : float
            Seconds to wait at the most.

        Returns
        -------
        bool
            Whether that came in time.
        """
        with self._changed:
            mark = self._backlog.hurry()
            self._changed.notify_all()
            in_time = self._changed.wait_for(lambda: self._backlog.is_settled(mark), timeout)
            self._backlog.raise_failure()
        return in_time

    def close(self, timeout: float = 30.0) -> None:
        """Send what waits, and end.

        Parameters
        ----------
        timeout : float
            Seconds after which the rest is dropped.
        """
        self._close_queue()
        if self._thread is None:
            self._finish()
        else:
            self._thread.join(timeout)
            self._abandoned.set()
            # A pause ends now; a request that is under way goes on, and is counted when it ends.
            self._thread.join(_GRACE_SECONDS)
        _clients.discard(self)
        self._backlog.raise_failure()

    def _close_until(self, end: float) -> None:
        self.close(max(0.0, end - time.monotonic()))

    def _close_queue(self) -> None:
        with self._changed:
            self._backlog.close()
            self._changed.notify_all()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="embedding-drift", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # No more threads for now, or the interpreter ends; the next vector tries again.
            _log.warning("vectors wait: %s", error)
        else:
            self._thread = thread

    def _run(self) -> None:
        try:
            while self._wait():
                self._send()
        finally:
            self._finish()

    def _wait(self) -> bool:
        """Wait for the next batch; False when there will be none."""
        with self._changed:
            while (seconds := self._backlog.seconds_to_due()) != 0:
                if self._backlog.is_done:
                    return False
                self._changed.wait(seconds)
            return not self._abandoned.is_set()

    def _send(self) -> None:
        outcome: Answer | Exception
        try:
            with self._changed:
                batch = self._backlog.take()
            outcome = self._sender.send(batch)
        # Whatever it is, the program goes on and so does its next batch.
        except Exception as error:
            outcome = error
        with self._changed:
            self._backlog.settle(outcome)
            self._changed.notify_all()

    def _finish(self) -> None:
        with self._changed, self._sender:
            self._backlog.abandon()
            self._changed.notify_all()

    def _pause(self, seconds: float) -> None:
        if self._abandoned.wait(seconds):
            raise Undelivered("closed before the service could be reached")


class AsyncClient(_Counted):
    """The same for programs on an event loop: sends from a task; an asynchronous context manager.

    ::

        async with AsyncClient("http://127.0.0.1:10910", "my-model") as client:
            client.add(vectors)

    It belongs to one event loop and is used from nowhere else; with several threads, use
    :class:`Client`. What waits when the loop ends is lost without :meth:`close`.
    """

    def __init__(
        self,
        url: str,
        model_name: str,
        *,
        token: str | None = None,
        verify: str | os.PathLike[str] | None = None,
        batch_size: int = 500,
        interval: float = 1.0,
        max_queue_vectors: int = 10_000,
        max_queue_bytes: int = _QUEUE_BYTES,
        raise_errors: bool = False,
    ) -> None:
        self._backlog = Backlog(
            batch_size, interval, max_queue_vectors, max_queue_bytes, raise_errors
        )
        self._sender = AsyncSender(url, model_name, token=token, verify=verify, attempts=_ATTEMPTS)
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def add(
        self,
        vectors: ArrayLike,
        ids: Ids = None,
        metadata: Metadata = None,
        timestamps: Timestamps = None,
    ) -> None:
        """Queue vectors to be sent, as :meth:`Client.add` does; returns at once."""
        self._backlog.add(intake.read(vectors, ids, metadata, timestamps))
        self._start()
        self._notify()

    async def flush(self, timeout: float = 30.0) -> bool:
        """Wait until all that was added is sent or has failed, as :meth:`Client.flush` does."""
        mark = self._backlog.hurry()
        self._start()
        self._notify()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not self._backlog.is_settled(mark):
                    await self._changed.wait()
        self._backlog.raise_failure()
        return self._backlog.is_settled(mark)

    async def close(self, timeout: float = 30.0) -> None:
        """Send what waits, and end, as :meth:`Client.close` does."""
        self._backlog.close()
        self._start()
        self._notify()
        if self._task is None:
            await self._finish()
        else:
            await asyncio.wait([self._task], timeout=timeout)
            self._task.cancel()
            await asyncio.wait([self._task])
        self._backlog.raise_failure()

    def _start(self) -> None:
        if self._task is not None or not self._backlog.waiting:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError as error:
            # The next call on the loop tries again.
            self._backlog.tell("vectors wait", Undelivered(str(error)))
        else:
            self._task = loop.create_task(self._run(), name="embedding-drift")

    def _notify(self) -> None:
        """Wake all who wait, and have those who come later wait for the next time."""
        self._changed.set()
        self._changed.clear()

    async def _run(self) -> None:
        try:
            while await self._wait():
                await self._send()
        finally:
            await self._finish()

    async def _wait(self) -> bool:
        """Wait for the next batch; False when there will be none."""
        while (seconds := self._backlog.seconds_to_due()) != 0:
            if self._backlog.is_done:
                return False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
        return True

    async def _send(self) -> None:
        outcome: Answer | Exception
        try:
            outcome = await self._sender.send(self._backlog.take())
        # Whatever it is, the program goes on and so does its next batch.
        except Exception as error:
            outcome = error
        self._backlog.settle(outcome)
        self._notify()

    async def _finish(self) -> None:
        self._backlog.abandon()
        self._notify()
        async with self._sender:
            pass


_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _close_all() -> None:
    """Close all at once, each even if another raises."""
    clients = list(_clients)
    end = time.monotonic() + _EXIT_SECONDS
    with contextlib.ExitStack() as stack:
        for client in clients:
            client._close_queue()
            stack.callback(client._close_until, end)


def _begin_anew() -> None:
    """Begin anew in a forked child, which has no thread but maybe the lock it held."""
    for client in list(_clients):
        client._begin()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
