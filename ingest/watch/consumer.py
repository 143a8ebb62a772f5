"""Store the messages of a queue, each of which has the body of a request."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ingest.formats import checks, registry
from ingest.runtime.errors import MonitorError, PayloadError, TooManyModels, UnsupportedMediaType
from ingest.store.batch import Batch
from ingest.watch.sources.source import Message, Queue
from ingest.watch.target import Target, stored_id, timestamp

_DEFAULT_TYPE = "application/json"
_PERMANENT = (PayloadError, TooManyModels)
"""Errors of a message that reading it again would not help."""


class QueueFollower:
    """Stores the vectors of a queue's messages.

    A message is settled after its vectors are committed to the store, so it comes again if either
    of the two fails. Vectors without an id get one from the message, and the store drops those that
    it has. Vectors with an id may revise each other, so their message gets an idempotency key.

    A message may name its model, as a request does. Otherwise it is that of the target. Vectors of
    another dimension than their model's are skipped.

    Parameters
    ----------
    source : Queue
        It must be connected.
    target : Target
    """

    def __init__(self, source: Queue, target: Target) -> None:
        self._source = source
        self._target = target

    @property
    def noticed(self) -> Mapping[str, str]:
        """What is noticed of the queue, for the log."""
        return {"new_messages": "all", "unusable": "skipped" if self._target.skips else "stop"}

    def pause(self, interval: float, took: float) -> float:
        """Return how long to wait after a poll: reading itself waits for messages."""
        return 0.0

    async def poll(self) -> None:
        """Store the next messages. After an error, the next poll begins at the first unstored one.

        Raises
        ------
        SourceUnavailable
            If the queue cannot be read now.
        StoreUnavailable
            If the store cannot be reached.
        MonitorError
            If a message cannot be used, or the store refuses it.
        """
        messages = await self._source.read()
        done = 0
        try:
            parsed = await asyncio.to_thread(self._parsed, messages)
            # At once, so that the writer commits them together.
            outcomes = await asyncio.gather(
                *(self._stored(each) for each in parsed), return_exceptions=True
            )
            for message, outcome in zip(messages, outcomes, strict=False):
                if isinstance(outcome, _PERMANENT):
                    self._target.refuse(_placed(message, outcome))
                elif isinstance(outcome, BaseException):
                    raise outcome
                done += 1
        finally:
            if messages:
                await self._source.settle(done)

    def _parsed(self, messages: Sequence[Message]) -> list[Batch | PayloadError | None]:
        """Read messages, up to the first one that stops the watch.

        Parquet and int8 say much in few bytes. Messages after those that hold as much as all
        requests may are left for the next poll.
        """
        found: list[Batch | PayloadError | None] = []
        size = 0
        for message in messages:
            if size >= self._target.settings.max_queue_bytes:
                break
            try:
                found.append(batch := self._batch(message))
                size += 0 if batch is None else batch.nbytes
            except PayloadError as error:
                found.append(error)
                if not self._target.skips:
                    break
        return found

    def _batch(self, message: Message) -> Batch | None:
        if not message.body:
            return None  # it only deletes a key from a compacted topic
        headers = {"content-type": _DEFAULT_TYPE, **message.headers}
        if headers.pop("content-encoding", "identity") != "identity":
            raise UnsupportedMediaType(
                "Content-Encoding is not supported in messages; a queue compresses by itself"
            )
        batch = registry.parse(
            message.body,
            headers=headers,
            query={},
            limits=self._target.settings,
            now=time.time(),
            default_model=self._target.model_name,
        )
        checks.refuse_reserved_ids(batch)
        if batch.ids and batch.idempotency_key is None and self._target.revises:
            # Another message may revise these ids. When this one comes again, it must not revise
            # that one. With the body, because a topic without times that is made anew has the
            # same places with other messages. The place comes first, so that keys that come
            # together are stored together.
            digest = hashlib.sha256(message.body)
            key = f"{message.id}/{digest.hexdigest()[:32]}"
            batch = replace(batch, idempotency_key=key, fingerprint=digest.digest())
        given = batch.ids or [None] * len(batch)
        ids = [message.id if len(batch) == 1 else f"{message.id}/{n}" for n in range(len(batch))]
        seconds = timestamp(message.seconds)
        times = batch.timestamps or [None] * len(batch)
        return replace(
            batch,
            ids=[
                stored_id(own) if id_ is None else id_ for id_, own in zip(given, ids, strict=True)
            ],
            timestamps=[seconds if at is None else at for at in times],
        )

    async def _stored(self, parsed: Batch | PayloadError | None) -> None:
        if isinstance(parsed, PayloadError):
            raise parsed
        if parsed is not None:
            await self._target.store_batch(parsed)


def _placed(message: Message, error: MonitorError) -> MonitorError:
    """Return the error with the place of the message."""
    return type(error)(f"{message.place}: {error.detail}", error.problems)
