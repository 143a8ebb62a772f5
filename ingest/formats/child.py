"""A process that reads bodies for this one, within limits of memory and time.

Whatever a body makes it do, it can neither take memory of this process nor end it. What the process
does is in :mod:`~ingest.formats.confinement`.
"""

from __future__ import annotations

import atexit
import logging
import signal
import threading

import msgspec
import numpy as np

from ingest.formats.parameters import Parameters
from ingest.runtime import errors
from ingest.runtime.errors import BodyTooLarge, PayloadError, Problem
from ingest.runtime.process import Process
from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch

_log = logging.getLogger(__name__)

_MEMORY_FACTOR = 8
_MEMORY_BESIDE = 64 * 1024 * 1024
MOST_SECONDS = 30
"""Processor time that reading one body may take."""
OUT_OF_MEMORY = 3
"""Exit code of a process whose memory did not suffice."""

_MODULE = "ingest.formats.confinement"
# Allocators that reserve addresses in advance would reach the limit without using memory.
_ALLOCATORS = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)
"""Ends of a process that no body causes by itself."""


def most_memory(limits: IngestSettings) -> int:
    """Return how many bytes of memory reading a body may take.

    Bodies that are as long as they may be take up to eight times that: int8 becomes float32, and
    short texts become objects.
    """
    return _MEMORY_FACTOR * limits.max_body_bytes + _MEMORY_BESIDE


class Request(msgspec.Struct, frozen=True):
    """How to read a body: settings in JSON, parameters, and the time."""

    limits: str
    parameters: Parameters
    now: float


class Answer(msgspec.Struct, frozen=True, tag=True):
    """A batch without its vectors, which come after it."""

    model_name: str
    dimension: int
    ids: list[str | None] | None
    metadata: list[bytes | None] | None
    timestamps: list[float | None] | None


class Refused(msgspec.Struct, frozen=True, tag=True):
    """Why a body cannot be used: an error by the name of its class."""

    error: str
    detail: str
    problems: tuple[Problem, ...]


_ANSWERS = msgspec.msgpack.Decoder(Answer | Refused)


class _Ended(Exception):
    """The process ended before it answered, with this code; of a signal, its negative number."""

    def __init__(self, code: int, had_answered: bool) -> None:
        super().__init__(code)
        self.code = code
        self.had_answered = had_answered


class Child:
    """Reads bodies in a process, one at a time. The process starts with the first body."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._has_answered = False
        self._is_closing = False
        self._lock = threading.Lock()
        atexit.register(self.close)

    def read(
        self, body: bytes, parameters: Parameters, limits: IngestSettings, now: float
    ) -> Batch:
        """Read a body as :func:`ingest.formats.parquet.read` does."""
        request = Request(limits.model_dump_json(), parameters, now)
        with self._lock:
            try:
                try:
                    return self._answer(request, body)
                except _Ended as end:
                    if self._is_closing or not self._may_be_innocent(end):
                        raise
                return self._answer(request, body)
            except _Ended as end:
                raise _error(end.code, limits) from end

    def close(self) -> None:
        """End the process, whatever it does. The body that it reads is refused."""
        self._is_closing = True
        # Without the lock: a thread that waits for the process has it.
        process = self._process
        if process is not None:
            process.kill()
        with self._lock:
            self._end()
            self._is_closing = False

    def _may_be_innocent(self, end: _Ended) -> bool:
        """Whether something else than the body may have ended the process."""
        is_signal = end.code < 0 and end.code != -signal.SIGPROF
        return is_signal and (end.had_answered or end.code in _FROM_OUTSIDE)

    def _answer(self, request: Request, body: bytes) -> Batch:
        if self._process is None:
            self._process, self._has_answered = Process(_MODULE, **_ALLOCATORS), False
            if self._is_closing:
                self._process.kill()
        try:
            self._process.send(request, body)
            message, vectors = self._process.receive()
            answer = _ANSWERS.decode(message)
        except (EOFError, BrokenPipeError) as error:
            had_answered, code = self._has_answered, self._end()
            if not self._is_closing:
                _log.warning("a process that read a body has ended", extra={"code": code})
            raise _Ended(code, had_answered) from error
        except BaseException:
            # What is left in the pipes must not be read as the answer to another body.
            self._end()
            raise
        self._has_answered = True
        if isinstance(answer, Refused):
            kind: type[PayloadError] = getattr(errors, answer.error)
            raise kind(answer.detail, answer.problems)
        rows = np.frombuffer(vectors, np.float32).reshape(-1, answer.dimension)
        return Batch(answer.model_name, rows, answer.ids, answer.metadata, answer.timestamps)

    def _end(self) -> int:
        """End the process, and return its code."""
        process, self._process = self._process, None
        return 0 if process is None else process.end()


def _error(code: int, limits: IngestSettings) -> Exception:
    """Return the error for a process that ended with a code."""
    if code == OUT_OF_MEMORY:
        return BodyTooLarge(
            f"to read the body takes more than {most_memory(limits)} bytes of memory, which is"
            f" {_MEMORY_FACTOR} times ingest.max_body_bytes and 64 MiB"
        )
    if code == -signal.SIGPROF:
        return BodyTooLarge(f"to read the body takes more than {MOST_SECONDS} s of processor time")
    if code < 0:
        return PayloadError(
            "the body is damaged, or made to do harm: the process that read it ended with"
            f" {signal.Signals(-code).name}"
        )
    return RuntimeError(f"the process that reads bodies ended with code {code}; see its traceback")
