"""The fit of a detector, and the quality of its reference, in a process of its own if it is large.

The fit takes seconds of a core and gigabytes of memory. Here it would delay requests and scrapes,
and the memory would stay with this process.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from exporter.detector import Detector
from exporter.stats.quality import Quality, assess
from ingest.runtime.errors import FitFailed, FitStopped
from ingest.runtime.process import Process, follow_input, receive, send

SMALL = 1_000_000
"""Components of all vectors of a reference whose fit takes no longer than to start a process."""
_NICENESS = 10
"""Requests, scrapes and the database come first."""
_FIRST_TO_KILL = "1000"
"""Where memory ends, Linux kills this process and not the service, unless it kills all."""


class Fitted(NamedTuple):
    """A detector, and the quality of the vectors it was fitted to."""

    detector: Detector
    quality: Quality


_running: set[Process] = set()
"""The processes of the fits under way."""


class _Array(msgspec.Struct, frozen=True, tag=True):
    """An array, whose data come after it."""

    dtype: str
    shape: tuple[int, ...]


class _End(msgspec.Struct, frozen=True, tag=True):
    """There are no more arrays."""


class _Done(msgspec.Struct, frozen=True, tag=True):
    """The quality of a reference. The bytes of its detector come after it."""

    quality: Quality


class _Refused(msgspec.Struct, frozen=True, tag=True):
    """Why no detector can be fitted."""

    detail: str


_REQUESTS = msgspec.msgpack.Decoder(_Array | _End)
_ANSWERS = msgspec.msgpack.Decoder(_Done | _Refused)


def fit(
    vectors: NDArray[np.float32],
    timestamps: NDArray[np.float64],
    positions: NDArray[np.int64],
    more: Iterable[tuple[NDArray[np.float32], NDArray[np.float64]]],
) -> Fitted:
    """Fit a detector, and assess its reference; see :meth:`exporter.detector.Detector.fit`.

    Raises
    ------
    ValueError
        As there.
    FitFailed
        If its process ended before it was done.
    FitStopped
        If `kill` ended it.
    """
    if vectors.size <= SMALL:
        detector = Detector.fit(vectors, timestamps=timestamps, positions=positions, more=more)
        return Fitted(detector, assess(vectors, detector.fingerprints(vectors)))
    process = Process(__name__)
    _running.add(process)
    try:
        # What it refused, it did not read to the end.
        with suppress(BrokenPipeError):
            for array in (vectors, timestamps, positions):
                process.send(*_encoded(array))
            for batch in more:
                for array in batch:
                    process.send(*_encoded(array))
            process.send(_End(), b"")
        message, fitted = process.receive()
    except EOFError as error:
        if process not in _running:
            raise FitStopped("the process that fitted a baseline was ended") from error
        raise _failed(process.end()) from error
    finally:
        _running.discard(process)
        process.end()
    answer = _ANSWERS.decode(message)
    if isinstance(answer, _Refused):
        raise ValueError(answer.detail)
    return Fitted(Detector.from_bytes(fitted), answer.quality)


def kill() -> None:
    """Kill the processes of the fits under way; any thread may."""
    for process in _running.copy():
        _running.discard(process)
        process.kill()


def _failed(code: int) -> FitFailed:
    ended = f"with {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
    advice = "; see its traceback" if code >= 0 else ""
    if code == -signal.SIGKILL:
        advice = "; it may need more memory"
    return FitFailed(f"the process that fitted a baseline ended {ended}{advice}")


def _encoded(array: NDArray[Any]) -> tuple[_Array, memoryview]:
    whole = np.ascontiguousarray(array)
    return _Array(whole.dtype.str, whole.shape), whole.reshape(-1).view(np.uint8).data


def _arrays() -> Iterator[NDArray[Any]]:
    while True:
        message, data = receive(sys.stdin.buffer)
        request = _REQUESTS.decode(message)
        if isinstance(request, _End):
            return
        yield np.frombuffer(data, request.dtype).reshape(request.shape)


def main() -> None:
    """Fit a detector to the arrays that come on the input, and assess them."""
    answers = follow_input()
    os.nice(_NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_KILL)
    arrays = _arrays()
    vectors, timestamps, positions = next(arrays), next(arrays), next(arrays)
    # The same iterator twice, so that each batch gets its timestamps.
    more = zip(arrays, arrays, strict=True)
    try:
        detector = Detector.fit(vectors, timestamps=timestamps, positions=positions, more=more)
    except ValueError as error:
        send(answers, _Refused(str(error)), b"")
    else:
        quality = assess(vectors, detector.fingerprints(vectors))
        send(answers, _Done(quality), detector.to_bytes())


if __name__ == "__main__":
    main()
