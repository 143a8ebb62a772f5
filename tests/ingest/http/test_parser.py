"""The parser: which bodies are read in the event loop, and which in its thread."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ingest.http.endpoint import IncomingRequest
from ingest.http.parser import Parser
from ingest.runtime.errors import PayloadError


def parse(body: bytes) -> tuple[bytes, str]:
    if not body:
        raise PayloadError("empty")
    return body, threading.current_thread().name


@pytest.mark.parametrize(("inline_bytes", "thread"), [(4, "MainThread"), (3, "parser_0")])
def test_a_long_body_is_parsed_in_the_thread_and_no_longer_held(
    inline_bytes: int, thread: str
) -> None:
    parser = Parser()
    request = IncomingRequest(b"body", {}, {}, ())
    assert asyncio.run(parser.parsed(request, parse, inline_bytes)) == (b"body", thread)
    assert request.body == b""
    parser.close()


def test_an_error_is_that_of_the_function() -> None:
    parser = Parser()
    with pytest.raises(PayloadError, match="empty"):
        asyncio.run(parser.parsed(IncomingRequest(b"", {}, {}, ()), parse, 0))
    parser.close()
