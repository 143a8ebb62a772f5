"""Clients that send the vectors of a running program in the background."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

from numpy.typing import ArrayLike

from embedding_drift_client.canaries import AsyncEncode, Encode
from embedding_drift_client.delivery import Answer, AsyncSender, CanaryAnswer, Sender
from embedding_drift_client.errors import ClientError
from embedding_drift_client.parameters import as_seconds
from embedding_drift_client.queue import Queue
from embedding_drift_client.rows import Ids, Metadata, Timestamps, read

_log = logging.getLogger(__name__)

_ATTEMPTS = 30
"""About 15 minutes, so that vectors in the queue survive an upgrade of the service."""
_CANARY_ATTEMPTS = 3
"""Seconds if the service is away or busy: the next canaries come anyway."""
_QUEUE_BYTES = 256 * 1024 * 1024
_EXIT_SECONDS = 4.0
_GRACE_SECONDS = 0.1
"""How long a closing client waits for its thread to notice."""


class _Closed(Exception):
    """The client is closed while it waits between two attempts."""


class _Base(ABC):
    """The parameters and counts that both clients share."""

    _queue: Queue

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
        close_timeout: float = 5.0,
        raise_errors: bool = False,
    ) -> None:
        """Create a client.

        Parameters
        ----------
        url : str
            Address of the service. It may contain the user and password of basic authentication.
        model_name : str
            Name of the model that makes the vectors.
        token : str, optional
            Bearer token with the scope ``write``.
        verify : path, optional
            File of the certificates to trust instead of the system's.
        batch_size : int
            Vectors that make a batch, and the most vectors of one request.
        interval : float
            Seconds after which vectors are sent even if they do not make a batch.
        max_queue_vectors : int
            Most vectors that may wait. Newer vectors are dropped.
        max_queue_bytes : int
            Most bytes of these vectors: 4 for each component, and those of ids and metadata.
        close_timeout : float
            Seconds that :meth:`close` waits by default, also at the end of a ``with`` block.
        raise_errors : bool
            Whether :meth:`add`, :meth:`flush` and :meth:`close` raise errors. Otherwise losses
            are counted and logged.

        Raises
        ------
        SettingsError, PayloadError
            If a parameter is not usable.
        """
        self._close_timeout = as_seconds("close_timeout", close_timeout)
        self._new_queue = partial(
            Queue, batch_size, interval, max_queue_vectors, max_queue_bytes, raise_errors
        )
        self._destination: dict[str, Any] = {
            "url": url,
            "model_name": model_name,
            "token": token,
            "verify": verify,
            "attempts": _ATTEMPTS,
        }
        self._canary_destination = self._destination | {"attempts": _CANARY_ATTEMPTS}
        self._raises = raise_errors
        self._open()

    @abstractmethod
    def _open(self) -> None:
        """Begin with an empty queue, and a sender that has checked its parameters."""

    def _tolerate(self, error: ClientError) -> None:
        """Log why canaries were not sent, or raise the error with ``raise_errors``."""
        if self._raises:
            raise error
        _log.warning("canaries not sent: %s", error)

    @property
    def added(self) -> int:
        """Vectors given to ``add``: the sum of all other counts except ``revisions``."""
        return self._queue.added

    @property
    def sent(self) -> int:
        """Vectors that the service accepted."""
        return self._queue.sent

    @property
    def revisions(self) -> int:
        """How many of the ``sent`` vectors revise an earlier vector of their id."""
        return self._queue.revisions

    @property
    def duplicates(self) -> int:
        """Vectors that the service did not store: see :attr:`Answer.duplicates`."""
        return self._queue.duplicates

    @property
    def dropped(self) -> int:
        """Vectors for which the queue had no room, or that were queued when it was closed."""
        return self._queue.dropped

    @property
    def failed(self) -> int:
        """Vectors that are not valid, that the service refused, or that did not reach it.

        If the client was closed while it sent a batch, the service may have stored the batch.
        """
        return self._queue.failed

    @property
    def waiting(self) -> int:
        """Vectors that are queued or being sent."""
        return self._queue.waiting


class Client(_Base):
    """Sends vectors of one model from a thread of its own; a context manager.

    ::

        with Client("http://127.0.0.1:10910", "my-model") as client:
            client.add(vectors)

    Each request reports the vectors that were dropped or failed since the last report that the
    service accepted. Losses after the last request are not reported; the log has the totals.

    The thread starts with the first vector. When the interpreter exits, the client sends what
    waits for up to about 5 seconds, and drops the rest. A process that ends in another way (by a
    signal without a handler, or by ``os._exit`` as children of ``multiprocessing`` do) must call
    :meth:`close`, or the vectors that wait are lost. After a fork, the child has an empty queue
    and counts from 0; the parent sends the vectors that waited.
    """

    def _open(self) -> None:
        self._begin()
        self._opened()
        _clients.add(self)

    def _begin(self) -> None:
        self._queue = self._new_queue()
        self._sender: Sender | None = None
        self._changed = threading.Condition()
        self._abandoned = threading.Event()
        self._thread: threading.Thread | None = None

    def _opened(self) -> Sender:
        """Return the sender. A forked child makes its own for its first batch.

        In the fork itself, it would cost each child that sends nothing, and an error could not be
        told.
        """
        if self._sender is None:
            self._sender = Sender(**self._destination, sleep=self._pause)
        return self._sender

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
            One vector, or several: lists, NumPy arrays, pandas objects or PyTorch tensors.
        ids : sequence of n, optional
            Text, numbers or UUIDs. The same vector under the same id is stored once; another vector
            revises it, unless the service has ``ingest.ids: once``.
        metadata : sequence of n mappings, optional
        timestamps : sequence of n, optional
            When each vector was made: seconds since the epoch, or datetimes with a time zone.

        Notes
        -----
        An element of ids, metadata or timestamps may be missing: None, NaN, or pandas' NaT or NA.
        For a single vector, they need not be in a sequence.

        Raises
        ------
        ClientError
            Only with ``raise_errors``: PayloadError if a vector is not valid, QueueFull, or an
            earlier failure to send. None of the vectors of this call is queued then.
        """
        given = read(vectors, ids, metadata, timestamps)
        with self._changed:
            self._queue.add(given)
            if self._thread is None and self._queue.waiting:
                self._start()
            self._changed.notify_all()

    def canary(self, encode: Encode, texts: Sequence[str] | None = None) -> CanaryAnswer | None:
        """Embed fixed texts, and have the service compare the vectors with earlier ones.

        Call it when the program starts, and then from time to time. Unlike :meth:`add`, it waits:
        for ``encode``, which it calls in this thread, and for the answer of the service. It gives
        up after three attempts: after about two seconds if nothing listens, ten if the service is
        busy, and three minutes if it accepts requests and never answers. It can be called at any
        time and from any thread; its vectors are in no count and in no window.

        Parameters
        ----------
        encode : callable
            Gets a list of n texts and returns n vectors, in any form that :meth:`add` accepts.
        texts : sequence of str, optional
            Texts of your own, at most 128; 32 shipped ones by default. They are not sent. Other
            texts begin with another reference.

        Returns
        -------
        CanaryAnswer or None
            How far the vectors have moved; None if they could not be sent, as the log says then.

        Raises
        ------
        ClientError
            Only with ``raise_errors``, as :meth:`Sender.canary` does.
        Exception
            What ``encode`` raises.
        """
        # A sender of its own, because the thread uses the other.
        try:
            with Sender(**self._canary_destination) as sender:
                return sender.canary(encode, texts)
        except ClientError as error:
            self._tolerate(error)
        return None

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until all vectors added so far are sent or have failed.

        Parameters
        ----------
        timeout : float
            Most seconds to wait.

        Returns
        -------
        bool
            False if the time was too short.
        """
        with self._changed:
            mark = self._queue.hurry()
            self._changed.notify_all()
            in_time = self._changed.wait_for(lambda: self._queue.is_settled(mark), timeout)
            self._queue.raise_failure()
        return in_time

    def close(self, timeout: float | None = None) -> None:
        """Send the vectors that wait, and end.

        Parameters
        ----------
        timeout : float, optional
            Seconds after which the rest is given up, counted and logged; ``close_timeout`` by
            default.
        """
        self._close_queue()
        if self._thread is None:
            self._finish()
        else:
            self._thread.join(self._close_timeout if timeout is None else timeout)
            self._abandoned.set()
            # A pause between two attempts ends now. A request may take longer than the caller
            # wants to wait: its outcome is not counted any more.
            self._thread.join(_GRACE_SECONDS)
            self._end()
        _clients.discard(self)
        self._queue.raise_failure()

    def _close_until(self, end: float) -> None:
        self.close(max(0.0, end - time.monotonic()))

    def _close_queue(self) -> None:
        with self._changed:
            self._queue.close()
            self._changed.notify_all()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="embedding-drift", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # The system has no more threads, or the interpreter exits. The next call tries again.
            self._queue.tell("vectors wait", str(error))
        else:
            self._thread = thread

    def _run(self) -> None:
        try:
            while self._wait():
                self._send()
        finally:
            self._finish()

    def _wait(self) -> bool:
        """Wait for the next batch; return False when there is none any more."""
        with self._changed:
            while (seconds := self._queue.seconds_to_due()) != 0:
                if self._queue.is_done:
                    return False
                self._changed.wait(seconds)
            return not self._abandoned.is_set()

    def _send(self) -> None:
        outcome: Answer | Exception
        try:
            with self._changed:
                batch = self._queue.take()
                lost = self._queue.report()
            outcome = self._opened().deliver(batch, lost)
        except _Closed:
            return
        except Exception as error:  # no failure may stop the thread
            outcome = error
        with self._changed:
            self._queue.settle(outcome)
            self._changed.notify_all()

    def _finish(self) -> None:
        with self._sender or contextlib.nullcontext():
            self._end()

    def _end(self) -> None:
        with self._changed:
            self._queue.end(None if self._sender is None else self._sender.trouble)
            self._changed.notify_all()

    def _pause(self, seconds: float) -> None:
        if self._abandoned.wait(seconds):
            raise _Closed


class AsyncClient(_Base):
    """The same as :class:`Client` for an event loop; an asynchronous context manager.

    ::

        async with AsyncClient("http://127.0.0.1:10910", "my-model") as client:
            client.add(vectors)

    It sends from a task. It belongs to one event loop and must be used from that loop only; a
    program with several threads uses :class:`Client`. Vectors that wait when the loop ends are
    lost without :meth:`close`.
    """

    def _open(self) -> None:
        self._queue = self._new_queue()
        self._sender = AsyncSender(**self._destination)
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
        self._queue.add(read(vectors, ids, metadata, timestamps))
        self._start()
        self._notify()

    async def canary(
        self, encode: Encode | AsyncEncode, texts: Sequence[str] | None = None
    ) -> CanaryAnswer | None:
        """Embed fixed texts and have them compared, as :meth:`Client.canary` does.

        ``encode`` runs in a thread, because it may take long; what it returns may be awaitable.
        """
        try:
            async with AsyncSender(**self._canary_destination) as sender:
                return await sender.canary(encode, texts)
        except ClientError as error:
            self._tolerate(error)
        return None

    async def flush(self, timeout: float = 30.0) -> bool:
        """Wait until all vectors added so far are sent or have failed; see :meth:`Client.flush`."""
        mark = self._queue.hurry()
        self._start()
        self._notify()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not self._queue.is_settled(mark):
                    await self._changed.wait()
        self._queue.raise_failure()
        return self._queue.is_settled(mark)

    async def close(self, timeout: float | None = None) -> None:
        """Send the vectors that wait, and end, as :meth:`Client.close` does."""
        self._queue.close()
        self._start()
        self._notify()
        if self._task is None:
            await self._finish()
        else:
            seconds = self._close_timeout if timeout is None else timeout
            await asyncio.wait([self._task], timeout=seconds)
            self._task.cancel()
            await asyncio.wait([self._task])
        self._queue.raise_failure()

    def _start(self) -> None:
        if self._task is not None or not self._queue.waiting:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError as error:
            # The next call on the loop tries again.
            self._queue.tell("vectors wait", str(error))
        else:
            self._task = loop.create_task(self._run(), name="embedding-drift")

    def _notify(self) -> None:
        """Wake all waiting tasks. The event is cleared at once, so that later ones wait again."""
        self._changed.set()
        self._changed.clear()

    async def _run(self) -> None:
        try:
            while await self._wait():
                await self._send()
        finally:
            await self._finish()

    async def _wait(self) -> bool:
        """Wait for the next batch; return False when there is none any more."""
        while (seconds := self._queue.seconds_to_due()) != 0:
            if self._queue.is_done:
                return False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
        return True

    async def _send(self) -> None:
        outcome: Answer | Exception
        try:
            batch = self._queue.take()
            outcome = await self._sender.deliver(batch, self._queue.report())
        except Exception as error:  # no failure may stop the task
            outcome = error
        self._queue.settle(outcome)
        self._notify()

    async def _finish(self) -> None:
        self._queue.end(self._sender.trouble)
        self._notify()
        async with self._sender:
            pass


_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _close_all() -> None:
    """Close all clients at the same time, each of them even if another one raises."""
    clients = list(_clients)
    end = time.monotonic() + _EXIT_SECONDS
    with contextlib.ExitStack() as stack:
        for client in clients:
            client._close_queue()
            stack.callback(client._close_until, end)


def _begin_anew() -> None:
    """Reset the clients in a forked child, where their threads do not exist."""
    for client in list(_clients):
        client._begin()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
