"""Canaries: the same texts again and again, and how far their vectors are from the first ones."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from embedding_drift_client import AsyncClient, CanaryAnswer, Client, Sender, canaries
from embedding_drift_client.delivery import AsyncSender
from embedding_drift_client.errors import ClientError, NonFinite, PayloadError, Undelivered
from ingest.http.canaries import MAX_CANARIES
from tests.network import Network, Reply, listening

FIRST = CanaryAnswer(True, 0.0, 0.0)
MOVED = Reply(201, {}, b'{"reference": false, "median_distance": 0, "max_distance": 0.5}')
DIMENSION = 16

Encode = Callable[[list[str]], Any]
Canary = Callable[..., CanaryAnswer | None]


def encode(texts: Sequence[str]) -> NDArray[np.float32]:
    """An encoder: each text has its own vector."""
    seeds = [int.from_bytes(text.encode()[:8].ljust(8), "big") + len(text) for text in texts]
    rows = [np.random.default_rng(seed).normal(size=DIMENSION) for seed in seeds]
    return np.array(rows, np.float32)


def one_text_changed(texts: Sequence[str]) -> NDArray[np.float32]:
    """The same encoder, which now strips emoji."""
    return encode([re.sub("[^\x00-\uffff]", "", text) for text in texts])


def canary(url: str, *arguments: Any, **options: Any) -> CanaryAnswer | None:
    with Client(url, "m", **options) as client:
        return client.canary(*arguments)


def canary_async(url: str, *arguments: Any, **options: Any) -> CanaryAnswer | None:
    async def run() -> CanaryAnswer | None:
        async with AsyncClient(url, "m", **options) as client:
            return await client.canary(*arguments)

    return asyncio.run(run())


def canary_sent(url: str, *arguments: Any, **options: Any) -> CanaryAnswer | None:
    with Sender(url, "m") as sender:
        return sender.canary(*arguments)


each = pytest.mark.parametrize("canary", [canary, canary_async, canary_sent])
either = pytest.mark.parametrize("canary", [canary, canary_async])


@each
def test_canaries_tell_an_encoder_that_changed(real: Network, canary: Canary) -> None:
    assert canary(real.url, encode) == FIRST
    again = canary(real.url, encode)
    assert again is not None
    assert not again.is_reference
    assert (again.median_distance, again.max_distance) == pytest.approx((0, 0), abs=1e-15)
    changed = canary(real.url, one_text_changed)
    assert changed is not None
    assert changed.median_distance == pytest.approx(0, abs=1e-15)
    assert changed.max_distance > 0.1


@each
def test_other_texts_begin_with_another_reference(real: Network, canary: Canary) -> None:
    assert canary(real.url, encode) == FIRST
    assert canary(real.url, encode, ["one", "two"]) == FIRST
    assert canary(real.url, lambda texts: encode(texts) * 2, ["one", "two"]) != FIRST
    assert canary(real.url, encode, ["two", "one"]) == FIRST


def test_only_vectors_are_sent() -> None:
    bodies: list[bytes] = []

    def service(_: Mapping[str, str], body: bytes) -> Reply:
        bodies.append(body)
        return MOVED

    with listening(Network(service)) as network, Sender(network.url, "m") as sender:
        sender.canary(encode, ["a secret text"])
    (body,) = bodies
    assert json.loads(body).keys() == {"model_name", "embeddings", "ids"}
    assert b"secret" not in body
    assert network.requests[0][":path"] == "/canaries"


def test_canaries_are_in_no_count(real: Network, connection: psycopg.Connection) -> None:
    with Client(real.url, "m", close_timeout=240) as client:
        client.canary(encode)
        client.add([[1.0] * DIMENSION], ids=["a"])
        client.canary(encode)
    assert (client.added, client.sent) == (1, 1)
    assert connection.execute("select id from embedding").fetchall() == [("a",)]


@either
def test_a_service_that_is_away_disturbs_nothing(
    network: Network, canary: Canary, caplog: pytest.LogCaptureFixture
) -> None:
    network.faults = [Reply(503)] * 3
    assert canary(network.url, encode) is None
    assert "canaries not sent: given up after 3 attempts" in caplog.text
    network.faults = [Reply(503)] * 3
    with pytest.raises(Undelivered):
        canary(network.url, encode, raise_errors=True)


def test_a_service_that_asks_for_an_hour_does_not_delay_a_program(network: Network) -> None:
    pauses: list[float] = []

    async def noted(seconds: float) -> None:
        pauses.append(seconds)

    async def sent() -> None:
        async with AsyncSender(network.url, "m", attempts=3, sleep=noted) as sender:
            await sender.canary(encode)

    busy = [Reply(status, {"Retry-After": "3600"}) for status in (429, 503, 503)]
    network.faults = [*busy]
    with (
        Sender(network.url, "m", attempts=3, sleep=pauses.append) as sender,
        pytest.raises(Undelivered),
    ):
        sender.canary(encode)
    network.faults = [*busy]
    with pytest.raises(Undelivered):
        asyncio.run(sent())
    assert pauses == [5.0] * 4


@each
def test_errors_of_the_encoder_are_those_of_the_program(canary: Canary) -> None:
    def broken(_: list[str]) -> None:
        raise LookupError("no model is loaded")

    with pytest.raises(LookupError, match="no model is loaded"):
        canary("http://127.0.0.1:1", broken)


def test_an_encoder_does_not_stop_the_event_loop(real: Network) -> None:
    threads: list[int] = []

    def slow(texts: list[str]) -> NDArray[np.float32]:
        threads.append(threading.get_ident())
        return encode(texts)

    async def awaited(texts: list[str]) -> NDArray[np.float32]:
        await asyncio.sleep(0)
        return encode(texts)

    assert canary_async(real.url, slow) == FIRST
    assert threads != [threading.get_ident()]
    assert canary_async(real.url, awaited) != FIRST


@pytest.mark.parametrize(
    ("wrong", "texts", "message"),
    [
        (lambda texts: encode(texts)[:-1], None, "31 vectors of dimension 16 for 32 texts"),
        (lambda texts: encode(texts)[0], None, "1 vectors of dimension 16 for 32 texts"),
        (lambda texts: [[1.0], [1.0, 2.0]], ["a", "b"], "2 vectors of dimension 1 and 2 for 2"),
        (lambda texts: [], None, "0 vectors of dimension none for 32 texts"),
        (lambda texts: texts, None, "/embeddings"),
        (encode, [], "0 elements; allowed are 1 to 128"),
        (encode, ["a"] * 129, "129 elements"),
        (encode, "one text", "texts is one text"),
        (encode, ["a", 7], "an element of type int"),
    ],
)
def test_what_is_wrong_is_named(wrong: Encode, texts: Any, message: str) -> None:
    with (
        Sender("http://127.0.0.1:1", "m") as sender,
        pytest.raises(PayloadError, match=re.escape(message)),
    ):
        sender.canary(wrong, texts)


def test_a_vector_that_is_not_finite_is_named() -> None:
    def broken(texts: list[str]) -> NDArray[np.float32]:
        vectors = encode(texts)
        vectors[31, 2] = np.nan
        return vectors

    with Sender("http://127.0.0.1:1", "m") as sender, pytest.raises(NonFinite, match="/31/2"):
        sender.canary(broken)


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"stored": 32, "duplicates": 0}'])
def test_an_answer_of_another_service_is_an_error(network: Network, answer: bytes) -> None:
    network.faults = [Reply(201, {}, answer)]
    with (
        Sender(network.url, "m") as sender,
        pytest.raises(ClientError, match="another service"),
    ):
        sender.canary(encode)


def test_the_shipped_texts_are_16_ordinary_and_16_awkward_ones() -> None:
    ordinary, awkward = canaries.TEXTS[:16], canaries.TEXTS[16:]
    assert len(set(canaries.TEXTS)) == 32
    assert all(text.isascii() and 40 < len(text) < 80 for text in ordinary)
    assert max(map(len, awkward)) > 4_000
    assert min(map(len, awkward)) == 1
    characters = set("".join(awkward))
    scripts = {unicodedata.name(each, "").split(" ")[0] for each in characters}
    assert {"CJK", "HIRAGANA", "HANGUL", "ARABIC", "HEBREW", "CYRILLIC", "DEVANAGARI"} <= scripts
    assert {"R", "AL"} <= {unicodedata.bidirectional(each) for each in characters}
    assert "\N{ZERO WIDTH JOINER}" in characters  # of emoji


def test_the_version_of_the_shipped_texts_changes_only_with_them() -> None:
    # Another version begins with another reference, and a change of the encoder at the same time
    # would not be seen.
    assert canaries.ids(canaries.TEXTS)[0] == "canary:b6201b7cbbe22443:0"


def test_client_and_service_allow_the_same_number_of_texts() -> None:
    assert canaries.MAX_TEXTS == MAX_CANARIES
