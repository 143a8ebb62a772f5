"""Messages of a queue are bodies of requests; they are settled after they are stored."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import numpy as np
import psycopg
import pytest

from ingest.pipeline.metrics import DUPLICATES, REJECTED, VECTORS
from ingest.runtime.errors import PayloadError, StoreUnavailable, TooManyModels
from ingest.runtime.settings.settings import IngestSettings
from ingest.watch.consumer import QueueFollower
from ingest.watch.sources.source import Message, Terms
from ingest.watch.target import Target
from tests.watching import Watching


class Queue:
    """Messages in memory."""

    name = "docs"
    advice = ()

    def __init__(self, *messages: Message) -> None:
        self.waiting = list(messages)
        self._last: list[Message] = []
        self.settles = True

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        yield

    def follower(self, target: Target, terms: Terms) -> QueueFollower:
        return QueueFollower(self, target)

    async def read(self) -> Sequence[Message]:
        return self.waiting[:10]

    async def settle(self, done: int) -> None:
        if self.settles:
            del self.waiting[:done]


def message(number: int, body: object, **headers: str) -> Message:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Message(f"queue docs, number {number}", f"docs/{number}", named, data, 1.7e9)


def poll(
    store: str,
    queue: Queue,
    polls: int = 1,
    *,
    skips: bool = False,
    limits: IngestSettings | None = None,
) -> tuple[Watching, list[Exception]]:
    watching = Watching(store)
    errors: list[Exception] = []

    async def main() -> None:
        async with watching.following(queue, skips=skips, limits=limits) as follower:
            for _ in range(polls):
                try:
                    await follower.poll()
                except (PayloadError, StoreUnavailable, TooManyModels) as error:
                    errors.append(error)

    asyncio.run(main())
    return watching, errors


def rows(connection: psycopg.Connection) -> list[tuple[str, str, list[float]]]:
    return [
        (name, id_, vector)
        for name, id_, vector in connection.execute(
            "select model_name, id, embedding::real[] from embedding order by model_name, seq"
        )
    ]


def test_a_message_has_any_body_of_the_registry(store: str, connection: psycopg.Connection) -> None:
    file = io.BytesIO()
    np.save(file, np.array([[5, 6]], np.float32))
    queue = Queue(
        message(0, {"embedding": [1, 2], "id": "own", "model_name": "named"}),
        message(1, {"embeddings": [[1, 2], [3, 4]]}),
        message(2, {"object": "list", "model": "ada", "data": [{"embedding": [7, 8]}]}),
        message(
            3,
            np.array([9, 10], "<f4").tobytes(),
            content_type="application/octet-stream",
            x_dimension="2",
            x_model_name="raw",
        ),
        message(4, file.getvalue(), content_type="application/x-npy"),
        message(5, b""),  # deletes a key of a compacted topic
    )
    _, errors = poll(store, queue)
    assert errors == []
    assert queue.waiting == []
    assert rows(connection) == [
        ("ada", "docs/2", [7, 8]),
        ("m", "docs/1/0", [1, 2]),
        ("m", "docs/1/1", [3, 4]),
        ("m", "docs/4", [5, 6]),
        ("named", "own", [1, 2]),
        ("raw", "docs/3", [9, 10]),
    ]


def test_a_vector_without_a_time_has_that_of_its_message(
    store: str, connection: psycopg.Connection
) -> None:
    poll(
        store,
        Queue(
            message(0, {"embedding": [1, 2]}),
            message(1, {"embedding": [1, 2], "metadata": {"timestamp": 1_600_000_000}}),
        ),
    )
    found = connection.execute(
        "select extract(epoch from embedded_at)::float8 from embedding order by seq"
    ).fetchall()
    assert found == [(1.7e9,), (1.6e9,)]


def test_messages_that_come_again_are_not_stored_twice(
    store: str, connection: psycopg.Connection
) -> None:
    queue = Queue(message(0, {"embeddings": [[1, 2], [3, 4]]}))
    queue.settles = False
    watching, errors = poll(store, queue, polls=2)
    assert errors == []
    assert (watching.total(VECTORS), watching.total(DUPLICATES)) == (2, 2)


def test_messages_that_revise_an_id_are_not_revisions_again_when_they_come_again(
    store: str, connection: psycopg.Connection
) -> None:
    queue = Queue(*[message(n, {"embedding": [1, n], "id": "own"}) for n in range(2)])
    queue.settles = False
    _, errors = poll(store, queue, polls=2)
    assert errors == []
    assert rows(connection) == [("m", "own", [1, 0]), ("m", "own", [1, 1])]


@pytest.mark.parametrize(("ids", "keys"), [("revise", 1), ("once", 0)])
def test_only_messages_whose_ids_can_be_revised_leave_a_key(
    ids: Literal["revise", "once"], keys: int, store: str, connection: psycopg.Connection
) -> None:
    queue = Queue(message(0, {"embedding": [1, 2], "id": "own"}), message(1, {"embedding": [3, 4]}))
    _, errors = poll(store, queue, limits=IngestSettings(ids=ids))
    assert errors == []
    found = connection.execute("select key from idempotency_key").fetchall()
    assert len(found) == keys
    assert all(key.startswith("docs/0/") for (key,) in found)


def test_a_message_of_the_place_of_another_one_is_stored(
    store: str, connection: psycopg.Connection
) -> None:
    """Places without a time come again when a topic is made anew."""
    queue = Queue(message(0, {"embedding": [1, 2], "id": "own"}))
    poll(store, queue)
    queue.waiting = [message(0, {"embedding": [3, 4], "id": "own"})]
    _, errors = poll(store, queue)
    assert errors == []
    assert rows(connection) == [("m", "own", [1, 2]), ("m", "own", [3, 4])]


def test_a_message_may_have_its_own_idempotency_key(
    store: str, connection: psycopg.Connection
) -> None:
    body = {"embedding": [1, 2]}
    _, errors = poll(store, Queue(*[message(n, body, idempotency_key="key") for n in range(2)]))
    assert errors == []
    assert rows(connection) == [("m", "docs/0", [1, 2])]


BAD = [
    message(1, b"not json"),
    message(1, {"embedding": [1, None]}),
    message(1, b"x", content_type="text/csv"),
    message(1, {"embedding": [1, 2]}, content_encoding="gzip"),
    message(1, {"vector": [1, 2]}),
    message(1, {"embedding": [1, 2], "id": "canary:own:a"}),
]


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_a_bad_message_is_named_and_stops_the_queue_until_it_is_gone(
    store: str, connection: psycopg.Connection, bad: Message
) -> None:
    queue = Queue(message(0, {"embedding": [1, 2]}), bad, message(2, {"embedding": [3, 4]}))
    watching, errors = poll(store, queue, polls=3)
    assert len(errors) == 3
    assert all(str(error).startswith("queue docs, number 1: ") for error in errors)
    assert queue.waiting[0] == bad
    assert ("m", "docs/0", [1, 2]) in rows(connection)
    assert watching.total(VECTORS) <= 2


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_a_bad_message_is_skipped_and_logged(
    store: str,
    connection: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
    bad: Message,
) -> None:
    queue = Queue(message(0, {"embedding": [1, 2]}), bad, message(2, {"embedding": [3, 4]}))
    _, errors = poll(store, queue, skips=True)
    assert errors == []
    assert queue.waiting == []
    assert [id_ for _, id_, _ in rows(connection)] == ["docs/0", "docs/2"]
    [record] = [record for record in caplog.records if record.message == "skipped"]
    assert vars(record)["error"].startswith("queue docs, number 1: ")


@pytest.mark.parametrize("skips", [False, True])
def test_messages_of_another_dimension_are_always_skipped_and_each_is_counted_once(
    store: str, connection: psycopg.Connection, caplog: pytest.LogCaptureFixture, skips: bool
) -> None:
    queue = Queue(message(0, {"embedding": [1, 2]}))
    queue.waiting += [message(n, {"embedding": [1, 2, 3]}) for n in (1, 2)]
    queue.waiting.append(message(3, {"embedding": [3, 4]}))
    watching, errors = poll(store, queue, polls=3, skips=skips)
    assert errors == []
    assert queue.waiting == []
    assert [id_ for _, id_, _ in rows(connection)] == ["docs/0", "docs/3"]
    labels = {"route": "watch", "reason": "DimensionMismatch"}
    assert watching.sample(REJECTED, labels) == 2
    [record] = [record for record in caplog.records if record.message == "vectors skipped"]
    assert "3" in vars(record)["error"]


def test_a_message_of_one_model_too_many_stops_the_queue_or_is_skipped(
    store: str, connection: psycopg.Connection
) -> None:
    named = [message(n, {"embedding": [1, 2], "model_name": name}) for n, name in enumerate("aba")]
    queue = Queue(*named)
    limits = IngestSettings(max_models=1)
    _, errors = poll(store, queue, polls=2, limits=limits)
    assert [type(error) for error in errors] == [TooManyModels] * 2
    assert str(errors[0]).startswith("queue docs, number 1: ")
    assert queue.waiting == named[1:]
    watching, errors = poll(store, queue, skips=True, limits=limits)
    assert errors == []
    assert queue.waiting == []
    assert [(name, id_) for name, id_, _ in rows(connection)] == [("a", "docs/0"), ("a", "docs/2")]
    assert watching.sample(REJECTED, {"route": "watch", "reason": "TooManyModels"}) == 1


def test_messages_that_hold_much_are_stored_in_several_polls(
    store: str, connection: psycopg.Connection
) -> None:
    wide = np.zeros(400, np.int8)
    wide[0] = 1
    headers = {"content_type": "application/octet-stream", "x_dimension": "400", "x_dtype": "int8"}
    queue = Queue(*[message(n, wide.tobytes(), **headers) for n in range(5)])
    limits = IngestSettings(max_queue_bytes=2_000, max_body_bytes=1_024)
    watching, errors = poll(store, queue, limits=limits)
    assert errors == []
    assert len(watching.sent) == 2  # 1,600 bytes each
    assert len(queue.waiting) == 3
    watching, errors = poll(store, queue, polls=2, limits=limits)
    assert errors == []
    assert queue.waiting == []
    assert [id_ for _, id_, _ in rows(connection)] == [f"docs/{n}" for n in range(5)]


def test_a_message_is_not_settled_while_the_store_is_away(
    store: str, connection: psycopg.Connection
) -> None:
    connection.execute(
        "create function fail() returns trigger language plpgsql as $$ begin"
        " raise 'not now' using errcode = 'admin_shutdown'; end $$;"
        "create trigger fail before insert on embedding for each row execute function fail()"
    )
    queue = Queue(message(0, {"embedding": [1, 2]}))
    _, [error] = poll(store, queue)
    assert isinstance(error, StoreUnavailable)
    assert len(queue.waiting) == 1
