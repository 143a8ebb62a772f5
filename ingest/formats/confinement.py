"""The program of a :class:`~ingest.formats.child.Child`: reads bodies that come on its input.

It ends when its memory does not suffice or when a body takes too long: how it ended tells why.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from contextlib import suppress

import msgspec
import psutil

from ingest.formats import parquet
from ingest.formats.child import (
    MOST_SECONDS,
    OUT_OF_MEMORY,
    Answer,
    Refused,
    Request,
    most_memory,
)
from ingest.runtime.errors import PayloadError
from ingest.runtime.process import follow_input, receive, send
from ingest.runtime.settings.settings import IngestSettings


def main() -> None:
    """Read bodies until the input ends."""
    answers = follow_input()
    with suppress(ModuleNotFoundError):  # whoever sends a body is told
        import ingest.files.arrow  # noqa: F401
    taken = psutil.Process().memory_info().vms
    while True:
        _limit_memory(resource.RLIM_INFINITY)
        try:
            message, body = receive(sys.stdin.buffer)
        except EOFError:
            return
        request = msgspec.msgpack.decode(message, type=Request)
        limits = IngestSettings.model_validate_json(request.limits)
        _limit_memory(taken + most_memory(limits))
        # The signal ends the process, whatever it does.
        signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
        try:
            send(answers, *_answer(body, request, limits))
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        signal.setitimer(signal.ITIMER_PROF, 0)


def _answer(
    body: bytes, request: Request, limits: IngestSettings
) -> tuple[Answer | Refused, bytes | memoryview]:
    try:
        batch = parquet.read(body, request.parameters, limits, request.now)
    except PayloadError as error:
        if isinstance(error.__cause__, MemoryError):
            raise error.__cause__ from error
        return Refused(type(error).__name__, error.detail, error.problems), b""
    answer = Answer(batch.model_name, batch.dimension, batch.ids, batch.metadata, batch.timestamps)
    return answer, batch.vectors.data.cast("B")


def _limit_memory(size: int) -> None:
    """Limit the memory to a size, or as far as the limit that this process was started with."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    finite = [each for each in (size, hard) if each != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(finite, default=hard), hard))


if __name__ == "__main__":
    main()
