"""The parser: what it decompresses, and where it reads bodies."""

from __future__ import annotations

import asyncio
import gzip
import threading

import psutil
import pytest

from ingest.formats import parquet
from ingest.formats.format import Place
from ingest.formats.parameters import Parameters
from ingest.http.body_reader import BodyReader
from ingest.http.endpoint import IncomingRequest
from ingest.http.parser import Parser
from ingest.runtime.errors import BodyTooLarge, PayloadError, QueueFull
from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch
from tests.ingest.formats.bodies import NOW, ROWS, parquet_file, table_of
from tests.service import wait_for

READER = BodyReader(IngestSettings(max_body_bytes=2_000, max_queue_bytes=3_000), 1)


def parse(body: bytes) -> tuple[bytes, str]:
    if not body:
        raise PayloadError("empty")
    return body, threading.current_thread().name


@pytest.mark.parametrize(
    ("place", "thread"),
    [(Place.LOOP, "MainThread"), (Place.THREAD, "parser_0"), (Place.PROCESS, "waiting_0")],
)
def test_a_body_is_parsed_in_its_place_and_no_longer_held(place: Place, thread: str) -> None:
    parser = Parser(READER)
    request = IncomingRequest(b"body", {}, {}, (), 0)
    assert asyncio.run(parser.parsed(request, parse, place)) == (b"body", thread)
    assert request.body == b""
    parser.close()


def test_an_error_is_that_of_the_function() -> None:
    parser = Parser(READER)
    with pytest.raises(PayloadError, match="empty"):
        asyncio.run(parser.parsed(IncomingRequest(b"", {}, {}, (), 0), parse, Place.THREAD))
    parser.close()


def test_a_compressed_body_is_held_at_its_real_size() -> None:
    reader = BodyReader(READER.settings, 1)
    parser = Parser(reader)
    request = IncomingRequest(gzip.compress(bytes(1_600)), {"content-encoding": "gzip"}, {}, (), 0)
    assert asyncio.run(parser.unpack(request)) == reader.held_bytes == len(request.body) == 1_600
    again = IncomingRequest(gzip.compress(bytes(1_600)), {"content-encoding": "gzip"}, {}, (), 0)
    with pytest.raises(QueueFull):
        asyncio.run(parser.unpack(again))
    bomb = IncomingRequest(gzip.compress(bytes(2_001)), {"content-encoding": "gzip"}, {}, (), 0)
    with pytest.raises(BodyTooLarge):
        asyncio.run(parser.unpack(bomb))
    plain = IncomingRequest(b"body", {}, {}, (), 0)
    assert asyncio.run(parser.unpack(plain)) == 0
    assert reader.held_bytes == 1_600
    parser.close()


def test_closing_does_not_wait_for_a_process_that_reads_a_body_for_long() -> None:
    body = parquet_file(table_of(ROWS))

    def read(body: bytes) -> Batch:
        return parquet.CHILD.read(body, Parameters("m"), IngestSettings(), NOW)

    read(body)
    assert parquet.CHILD._process is not None
    process = psutil.Process(parquet.CHILD._process.pid)
    process.suspend()
    # Otherwise the test would wait for ever, too.
    later = threading.Timer(240, process.resume)
    later.start()

    async def close_meanwhile() -> None:
        parser = Parser(READER)
        requests = [IncomingRequest(body, {}, {}, (), 0) for _ in range(2)]
        first, second = (
            asyncio.ensure_future(parser.parsed(request, read, Place.PROCESS))
            for request in requests
        )
        await asyncio.to_thread(wait_for, parquet.CHILD._lock.locked, "the reading")
        parser.close()
        with pytest.raises(PayloadError, match="SIGKILL"):
            await first
        with pytest.raises(asyncio.CancelledError):
            await second

    asyncio.run(close_meanwhile())
    later.cancel()
    assert not process.is_running()
