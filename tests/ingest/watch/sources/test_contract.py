"""What every source must do. A new kind adds a case to ``KINDS``; the tests stay as they are.

Sources whose rows are in order also pass `test_ordered_tables.py`.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, cast

import psycopg
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException

from ingest.pipeline.metrics import REJECTED, REVISIONS, VECTORS
from ingest.runtime.errors import PayloadError, SourceUnavailable, StoreUnavailable
from ingest.store.connection import connect
from ingest.watch.sources import kafka as kafka_source
from ingest.watch.sources.postgres import PostgresSource
from ingest.watch.sources.postgres_catalogue import describe
from ingest.watch.sources.postgres_scan import PostgresScan
from ingest.watch.sources.qdrant import Collection
from ingest.watch.sources.registry import SOURCES
from ingest.watch.sources.source import Follower, Location, Source
from tests.broker import Broker
from tests.postgresql import Application
from tests.watching import Watching


class Given(Protocol):
    """A source of some kind, filled by a test. Its vectors are [n, 2] for n = 0, 1, 2, ..."""

    def source(self) -> Source:
        """Open the source as a new process would."""

    def add(self, numbers: Sequence[int]) -> None:
        """Add these vectors."""

    def add_unusable(self) -> None:
        """Add what is meant as a vector and is none."""

    def unavailable(self) -> AbstractContextManager[None]:
        """Make the source impossible to read while entered."""


class PostgresTable:
    """A table with a column of texts, which may hold what is no vector."""

    def __init__(self, application: Application, time: str | None, sample: int | None) -> None:
        self._application = application
        self._connection = application.connection
        self._location = Location("docs", "embedding", "id", time, ("tenant",), sample)
        self._connection.execute(
            "alter table docs alter embedding type text; alter table docs add tenant text"
        )

    def source(self) -> Source:
        reader = self._application.reader
        with connect(reader) as connection:
            table = describe(connection, self._location)
        if self._location.sample is not None:
            return PostgresScan(reader, table, self._location.sample)
        return PostgresSource(reader, table)

    def add(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._connection.execute(
                "insert into docs (embedding, tenant) values (%s, 'a')", [f"[{number},2]"]
            )

    def add_unusable(self) -> None:
        self._connection.execute("insert into docs (embedding, tenant) values ('[1, two]', 'a')")

    @contextmanager
    def unavailable(self) -> Iterator[None]:
        self._connection.execute("alter table docs rename to gone")
        yield
        self._connection.execute("alter table gone rename to docs")


class LocalClient:
    """The calls of the asynchronous client, in the library's local mode. It can be away."""

    def __init__(self) -> None:
        self.local = QdrantClient(location=":memory:")
        self.is_away = False

    async def count(self, *args: Any, **kwargs: Any) -> Any:
        return self.local.count(*args, **kwargs)

    async def scroll(self, *args: Any, **kwargs: Any) -> Any:
        if self.is_away:
            raise ResponseHandlingException(ConnectionError("refused"))
        return self.local.scroll(*args, **kwargs)

    async def retrieve(self, *args: Any, **kwargs: Any) -> Any:
        return self.local.retrieve(*args, **kwargs)

    async def close(self) -> None:
        """Keep the points for the next process."""


class QdrantCollection:
    def __init__(self) -> None:
        self._client = LocalClient()
        self._next = 0
        vectors = models.VectorParams(size=2, distance=models.Distance.DOT)
        self._client.local.create_collection("docs", vectors_config=vectors)

    def source(self) -> Source:
        client = cast("AsyncQdrantClient", self._client)
        return Collection("memory", lambda: client, "docs", metadata={"tenant": "tenant"})

    def add(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._next += 1
            payload = {"tenant": "a", "other": 1}
            point = models.PointStruct(id=self._next, vector=[float(number), 2.0], payload=payload)
            self._client.local.upsert("docs", [point])

    def add_unusable(self) -> None:
        pytest.skip("Qdrant refuses it")

    @contextmanager
    def unavailable(self) -> Iterator[None]:
        self._client.is_away = True
        yield
        self._client.is_away = False


class KafkaTopic:
    def __init__(self, broker: Broker) -> None:
        self._topic = broker.topic(partitions=2)

    def source(self) -> Source:
        return kafka_source.find(self._topic.source(), Location(self._topic.name))

    def add(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            body = {"embeddings": [[number, 2]], "metadata": [{"tenant": "a"}]}
            self._topic.send(json.dumps(body).encode(), partition=number % 2)

    def add_unusable(self) -> None:
        self._topic.send(b'{"embeddings": [[1, "two"]]}')

    @contextmanager
    def unavailable(self) -> Iterator[None]:
        with self._topic.broker.stopped(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(kafka_source, "_ANSWER_SECONDS", 3.0)
            yield


KINDS: dict[str, tuple[str, Callable[[pytest.FixtureRequest], Given]]] = {
    "a table ordered by time": (
        "postgres",
        lambda given: PostgresTable(given.getfixturevalue("application"), "updated_at", None),
    ),
    "a table ordered by id": (
        "postgres",
        lambda given: PostgresTable(given.getfixturevalue("application"), None, None),
    ),
    "a table in samples": (
        "postgres",
        lambda given: PostgresTable(given.getfixturevalue("application"), None, 1_000),
    ),
    "a collection of Qdrant": ("qdrant", lambda given: QdrantCollection()),
    "a topic of Kafka": ("kafka", lambda given: KafkaTopic(given.getfixturevalue("kafka"))),
}
"""By test case: the kind in the registry, and what makes an empty source of it."""


# Tests of one group share the broker.
CASES = [
    pytest.param(case, marks=pytest.mark.xdist_group("kafka")) if kind == "kafka" else case
    for case, (kind, _) in KINDS.items()
]


@pytest.fixture(params=CASES)
def given(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Given:
    monkeypatch.setattr(kafka_source, "_ANSWER_SECONDS", 60.0)
    _, make = KINDS[request.param]
    return make(request)


async def until(follower: Follower, condition: Callable[[], bool]) -> None:
    """Poll until a condition holds. A queue needs some polls before it gives its first message."""
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        await follower.poll()


async def raised(poll: Callable[[], Awaitable[None]], error: type[Exception]) -> Exception:
    """Poll until there is an error of this kind."""
    deadline = time.monotonic() + 240
    while True:
        assert time.monotonic() < deadline, "there was no error"
        try:
            await poll()
        except error as caught:
            return caught


def stored(store: str) -> Counter[int]:
    """First components of the stored vectors."""
    with connect(store) as connection:
        rows = connection.execute("select embedding::real[] from embedding").fetchall()
    return Counter(int(vector[0]) for (vector,) in rows)


def test_every_registered_kind_has_a_case() -> None:
    cases = {kind for kind, _ in KINDS.values()}
    assert {module for module, _ in SOURCES.values()} == {SOURCES[kind].module for kind in cases}


def test_each_vector_is_stored_once_also_after_a_restart(given: Given, store: str) -> None:
    watching = Watching(store)

    async def main() -> None:
        given.add([3, 1, 2])
        async with watching.following(given.source()) as follower:
            await until(follower, lambda: watching.total(VECTORS) == 3)
            given.add([5, 4])
            await until(follower, lambda: watching.total(VECTORS) == 5)
            await follower.poll()
        given.add([6])
        async with watching.following(given.source()) as follower:
            await until(follower, lambda: watching.total(VECTORS) == 6)
            await follower.poll()

    asyncio.run(main())
    assert stored(store) == Counter(range(1, 7))
    assert watching.total(REVISIONS) == 0


def test_a_stored_vector_has_an_id_and_its_metadata(
    given: Given, store: str, connection: psycopg.Connection
) -> None:
    watching = Watching(store)
    given.add([7])

    async def main() -> None:
        async with watching.following(given.source()) as follower:
            await until(follower, lambda: watching.total(VECTORS) == 1)

    asyncio.run(main())
    [(id_, metadata)] = connection.execute("select id, metadata from embedding").fetchall()
    assert id_
    assert metadata == {"tenant": "a"}


def test_the_text_of_a_source_is_the_same_after_a_restart(given: Given) -> None:
    assert str(given.source()) == str(given.source())


def test_nothing_is_lost_while_the_source_is_away(given: Given, store: str) -> None:
    watching = Watching(store)

    async def main() -> None:
        given.add([1])
        async with watching.following(given.source()) as follower:
            await until(follower, lambda: watching.total(VECTORS) == 1)
            with given.unavailable():
                await raised(follower.poll, SourceUnavailable)
            given.add([2])
            await until_available(follower, lambda: watching.total(VECTORS) == 2)

    async def until_available(follower: Follower, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 240
        while not condition():
            assert time.monotonic() < deadline, "it did not come"
            try:
                await follower.poll()
            except SourceUnavailable:
                await asyncio.sleep(0.2)

    asyncio.run(main())
    assert stored(store) == Counter([1, 2])


def test_nothing_is_lost_while_the_store_is_away(
    given: Given, store: str, connection: psycopg.Connection
) -> None:
    """The store fails in the middle of a commit, and the process ends before it is back."""
    watching = Watching(store)

    async def main() -> None:
        given.add(range(4))
        connection.execute(
            "create function fail() returns trigger language plpgsql as $$ begin"
            " raise 'not now' using errcode = 'admin_shutdown'; end $$;"
            "create trigger fail before insert on embedding for each row execute function fail()"
        )
        async with watching.following(given.source()) as follower:
            await raised(follower.poll, StoreUnavailable)
        connection.execute("drop trigger fail on embedding")
        async with watching.following(given.source()) as follower:
            await until(follower, lambda: watching.total(VECTORS) == 4)

    asyncio.run(main())
    assert stored(store) == Counter(range(4))


def test_what_cannot_be_used_stops_the_source_or_is_skipped(given: Given, store: str) -> None:
    watching = Watching(store)

    async def main() -> PayloadError:
        given.add([1])
        async with watching.following(given.source()) as follower:
            await until(follower, lambda: watching.total(VECTORS) == 1)
            given.add_unusable()
            error = await raised(follower.poll, PayloadError)
            given.add([2])
            await raised(follower.poll, PayloadError)
        async with watching.following(given.source(), skips=True) as follower:
            await until(follower, lambda: sorted(stored(store)) == [1, 2])
        assert isinstance(error, PayloadError)
        return error

    error = asyncio.run(main())
    where = r"docs\.embedding .*row '2|topic \w+, partition 0, offset 0: /embeddings/0: component 1"
    assert re.search(where, str(error))
    assert stored(store) == Counter([1, 2])
    rejected = {"route": "watch", "reason": "PayloadError"}
    assert watching.sample(REJECTED, rejected) == 1
