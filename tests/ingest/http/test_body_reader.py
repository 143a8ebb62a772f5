"""Reading bodies: limits of size, time and memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from starlette.types import Message, Receive

from ingest.http.body_reader import BodyReader
from ingest.runtime.errors import BodyTooLarge, LostClient, QueueFull, SlowClient
from ingest.runtime.settings.settings import IngestSettings

LIMITS = IngestSettings(max_body_bytes=2_000, max_queue_bytes=3_000)


def sending(chunks: Iterable[bytes | None]) -> Receive:
    """Make a client that sends chunks; None hangs up, and after the last one it waits."""
    left = list(chunks)

    async def receive() -> Message:
        if not left:
            await asyncio.sleep(3600)
        chunk = left.pop(0)
        if chunk is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": not chunk.endswith(b".")}

    return receive


def read(
    *chunks: bytes | None, reader: BodyReader | None = None, headers: dict[str, str] | None = None
) -> bytes:
    reader = reader or BodyReader(LIMITS, 0.1)
    return asyncio.run(reader.read(headers or {}, sending(chunks)))


def test_chunks_are_joined_and_their_bytes_held_until_released() -> None:
    reader = BodyReader(LIMITS, 10)
    assert read(b"a", b"", b"b.", reader=reader) == b"ab."
    assert reader.held_bytes == 3
    reader.release(3)
    assert reader.held_bytes == 0


@pytest.mark.parametrize(
    ("chunks", "error", "message"),
    [
        ([b"x" * 1_500, b"x" * 501], BodyTooLarge, "exceeds 2000 bytes"),
        ([b"x"], SlowClient, r"within 0\.1 s"),
        ([b"x", None], LostClient, "closed before the end of the body"),
    ],
)
def test_a_body_that_is_refused_holds_no_bytes(
    chunks: list[bytes | None], error: type[Exception], message: str
) -> None:
    reader = BodyReader(LIMITS, 0.1)
    with pytest.raises(error, match=message):
        read(*chunks, reader=reader)
    assert reader.held_bytes == 0


def test_a_declared_length_beyond_the_limit_is_refused_before_anything_is_read() -> None:
    with pytest.raises(BodyTooLarge):
        read(headers={"content-length": "2001"})


def test_all_bodies_together_are_limited() -> None:
    reader = BodyReader(LIMITS, 10)
    read(b"x" * 1_999 + b".", reader=reader)
    with pytest.raises(QueueFull, match="exceed 3000 bytes"):
        read(b"x" * 1_000 + b".", reader=reader)
    assert reader.held_bytes == 2_000


def test_bytes_that_are_not_read_are_held_until_they_are_released_and_limited_too() -> None:
    reader = BodyReader(LIMITS, 10)
    reader.hold(2_500)
    with pytest.raises(QueueFull):
        reader.hold(501)
    assert reader.held_bytes == 2_500
    reader.release(2_500)
    assert reader.held_bytes == 0
