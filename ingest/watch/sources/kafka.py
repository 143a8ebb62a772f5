"""Read a topic of Kafka, whose messages have the bodies of ``POST /embeddings``.

The client is confluent-kafka: it wraps librdkafka, which Kafka's own vendor keeps, and which knows
every compression and way of authentication of brokers. It has no asyncio interface for consumers,
so its calls run in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import parse_qs, urlsplit

from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka import Message as KafkaMessage

from ingest.runtime.errors import SettingsError, SourceUnavailable
from ingest.watch.consumer import QueueFollower
from ingest.watch.sources.source import Location, Message, Terms

if TYPE_CHECKING:
    from ingest.watch.target import Target

_log = logging.getLogger(__name__)

PROPERTIES = "KAFKA_PROPERTIES"
"""Environment variable with the path of a file of librdkafka's properties, such as passwords."""

_GROUP = "embedding-drift"
_ANSWER_SECONDS = 10.0
_WAIT_SECONDS = 1.0
_BLOCK_MESSAGES = 1_000
_BLOCK_BYTES = 8 * 1024 * 1024
"""Messages are read at once up to these limits; the last may go beyond the bytes."""
_DEFAULTS = {"session.timeout.ms": "10000"}
"""How long the partitions of a process that was killed wait for the next one."""
_OURS = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "allow.auto.create.topics": False,
    "auto.offset.reset": "earliest",
    "queued.max.messages.kbytes": 32 * 1024,
    "logger": _log,
}
"""What the promise that nothing is lost, the memory and the log depend on."""

T = TypeVar("T")


class _Place(NamedTuple):
    topic: str
    partition: int
    offset: int


class Topic:
    """A topic of Kafka; see :class:`Queue` in `source.py`.

    Parameters
    ----------
    config : dict
        Properties of librdkafka.
    name : str
    """

    def __init__(self, config: dict[str, Any], name: str) -> None:
        self._config = config
        self._consumer: Consumer | None = None
        # One thread, because a consumer is used by one at a time.
        self._thread = ThreadPoolExecutor(1, "kafka")
        self._last: list[_Place] = []
        self._failure: KafkaError | None = None
        self.name = name
        self.advice: Sequence[str] = ()

    def __str__(self) -> str:
        return f"topic {self.name}, group {self._config['group.id']}"

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Be a member of the group of consumers while entered."""
        self._consumer = Consumer({**self._config, "error_cb": self._failed})
        self._consumer.subscribe([self.name])
        try:
            yield
        finally:
            # Behind a call that still waits for messages; it ends within a second.
            self._thread.submit(self._consumer.close)
            await asyncio.to_thread(self._thread.shutdown)

    def follower(self, target: Target, terms: Terms) -> QueueFollower:
        """Return what stores the messages in a target."""
        return QueueFollower(self, target)

    async def read(self) -> Sequence[Message]:
        """Return the next messages, or none after a second without any."""
        found = await self._in_thread(self._read)
        self._last = [_place(each) for each in found]
        return [_message(each) for each in found]

    async def settle(self, done: int) -> None:
        """Commit the offsets of the first ``done`` of the last messages, and go back to the rest.

        If the partitions were given to another member of the group meanwhile, it reads all of the
        messages again.
        """
        last, self._last = self._last, []
        await self._in_thread(lambda: self._settle(last, done))

    def _read(self) -> list[KafkaMessage]:
        assert self._consumer is not None
        found: list[KafkaMessage] = []
        size = 0
        end = time.monotonic() + _WAIT_SECONDS
        while size < _BLOCK_BYTES and len(found) < _BLOCK_MESSAGES:
            message = self._consumer.poll(0 if found else max(0, end - time.monotonic()))
            if message is None:
                break
            if (error := message.error()) is not None:
                if found:
                    break  # these first; the error comes again
                raise KafkaException(error)
            found.append(message)
            size += len(message.value() or b"")
        if not found:
            # Silence may mean that there is no broker.
            self._consumer.list_topics(self.name, timeout=_ANSWER_SECONDS)
            if self._failure is not None and self._failure.fatal():
                raise KafkaException(self._failure)
        return found

    def _settle(self, last: Sequence[_Place], done: int) -> None:
        assert self._consumer is not None
        following = {place[:2]: place.offset + 1 for place in last[:done]}
        again = {place[:2]: place.offset for place in reversed(last[done:])}
        try:
            for (topic, partition), offset in again.items():
                self._consumer.seek(TopicPartition(topic, partition, offset))
            if following:
                offsets = [TopicPartition(*place, offset) for place, offset in following.items()]
                self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            # The consumer would go on after messages that are not settled. A new member of the
            # group begins with them.
            self._consumer.unsubscribe()
            self._consumer.subscribe([self.name])
            raise SourceUnavailable(f"offsets not committed: {_told(error)}") from error

    def _failed(self, error: KafkaError) -> None:
        self._failure = error

    async def _in_thread(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except KafkaException as error:
            raise SourceUnavailable(_told(error)) from error


def find(address: str, location: Location) -> Topic:
    """Find a topic.

    Parameters
    ----------
    address : str
        ``kafka://HOST:PORT,HOST:PORT?group=NAME``. It comes from a command line, so it must not
        contain a password.
    location : Location

    Raises
    ------
    SettingsError
        If the topic cannot be watched.
    SourceUnavailable
        If no broker can be reached.
    """
    for option, given in (
        ("--column", location.vector),
        ("--id", location.id),
        ("--time", location.time),
        ("--metadata", location.metadata or None),
        ("--sample", location.sample),
        ("--text-column", location.text),
    ):
        if given is not None:
            raise SettingsError(f"{option} is not for Kafka: a message has its own fields")
    config = _config(address)
    name = location.table
    try:
        consumer = Consumer(config)
    except KafkaException as error:
        raise SettingsError(f"Kafka does not accept the properties: {_told(error)}") from error
    try:
        topics = consumer.list_topics(timeout=_ANSWER_SECONDS).topics
    except KafkaException as error:
        raise SourceUnavailable(f"the brokers of topic {name}: {_told(error)}") from error
    finally:
        consumer.close()
    if name not in topics:
        seen = ", ".join(sorted(each for each in topics if not each.startswith("__"))[:20])
        raise SettingsError(f"--table {name}: there is no such topic; there are {seen or 'none'}")
    return Topic(config, name)


def _config(address: str) -> dict[str, Any]:
    # First, because other errors quote the address.
    if "@" in address.partition("?group=")[0]:
        raise SettingsError(
            "--source has a name or password, which everyone on this machine can read there; set"
            f" sasl.username and sasl.password in the file that {PROPERTIES} names"
        )
    allowed = (
        f"--source {address}: allowed is kafka://HOST:PORT,HOST:PORT?group=NAME; the topic is"
        " --table"
    )
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise SettingsError(allowed) from error
    query = parse_qs(parts.query)
    if not parts.netloc or parts.path.strip("/") or set(query) - {"group"}:
        raise SettingsError(allowed)
    group = query.get("group", [_GROUP])[0]
    given = {"bootstrap.servers": parts.netloc, "group.id": group}
    return {**_DEFAULTS, **_properties(), **given, **_OURS}


def _properties() -> dict[str, str]:
    path = os.environ.get(PROPERTIES)
    if not path:
        return {}
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{PROPERTIES}: {error}") from error
    found = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, separator, value = line.partition("=")
        if not separator:
            raise SettingsError(f"{path}, line {number}: key=value is needed")
        found[key.strip()] = value.strip()
    return found


def _place(message: KafkaMessage) -> _Place:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    return _Place(topic, partition, offset)


def _message(message: KafkaMessage) -> Message:
    kind, milliseconds = message.timestamp()
    time_ = None if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds
    topic, partition, offset = _place(message)
    headers = {
        key.lower(): value.decode("latin-1") if isinstance(value, bytes) else str(value or "")
        for key, value in dict(message.headers() or {}).items()
    }
    return Message(
        f"topic {topic}, partition {partition}, offset {offset}",
        # With the time: a topic that is made anew counts from 0 again.
        f"{topic}/{partition}/{offset}@{time_ or 0}",
        headers,
        message.value() or b"",
        None if time_ is None else time_ / 1e3,
    )


def _told(error: KafkaException) -> str:
    cause = error.args[0] if error.args else error
    return cause.str() if isinstance(cause, KafkaError) else str(cause)
