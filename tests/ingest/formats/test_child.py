"""The process that reads Parquet: what a body can do to it, and how it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
import psutil
import pyarrow as pa
import pytest

from ingest.formats.child import Child
from ingest.formats.parameters import Parameters
from ingest.runtime import process as processing
from ingest.runtime.errors import BodyTooLarge, PayloadError, UnsupportedMediaType
from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch
from tests.ingest.formats.bodies import NOW, ROWS, parquet_file, table_of
from tests.service import children, wait_for

BODY = parquet_file(table_of(ROWS, id=["a", None], tenant=["x", "y"]))
LIMITS = IngestSettings(max_body_bytes=1_000_000)

Read = Callable[[bytes], Batch]


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child()
    yield child
    child.close()


@pytest.fixture
def read(child: Child) -> Read:
    return lambda body: child.read(body, Parameters("m"), LIMITS, NOW)


def has_ended(process: psutil.Process) -> bool:
    """Whether a process runs no longer, though nobody may have asked how it ended."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def only() -> Callable[[], psutil.Process]:
    """Find the process that a test started."""
    before = children("ingest.formats.confinement")

    def only() -> psutil.Process:
        [process] = [each for each in children("ingest.formats.confinement") if each not in before]
        return process

    return only


def test_a_batch_comes_back_as_it_was_read(read: Read) -> None:
    for _ in range(2):
        batch = read(BODY)
        assert batch.model_name == "m"
        assert batch.vectors.tolist() == ROWS.tolist()
        assert batch.ids == ["a", None]
        assert batch.metadata == [b'{"tenant":"x"}', b'{"tenant":"y"}']
        assert batch.timestamps is None


def test_a_short_body_in_which_very_much_is_takes_no_memory_of_the_service(
    read: Read, only: Callable[[], psutil.Process]
) -> None:
    numbers = pa.array(np.ones(50_000_000, np.float32))
    lists = pa.LargeListArray.from_arrays(pa.array([0, len(numbers)]), numbers)
    body = parquet_file(pa.table({"embedding": lists}), compression="zstd")
    assert len(body) < 2_000
    read(BODY)
    first = only()
    most = pa.default_memory_pool().max_memory()
    with pytest.raises(BodyTooLarge) as raised:
        read(body)
    # 8,000,000 and 64 MiB.
    assert "takes more than 75108864 bytes of memory, which is 8 times" in raised.value.detail
    assert pa.default_memory_pool().max_memory() == most
    assert len(read(BODY)) == len(ROWS)
    assert only() != first


@pytest.fixture
def interrupted(read: Read, only: Callable[[], psutil.Process]) -> Callable[[int], Future[Batch]]:
    """Read a body in a thread, and send the process a signal before it answers."""

    def interrupted(number: int) -> Future[Batch]:
        read(BODY)
        process = only()
        process.suspend()
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(read, BODY)
            os.kill(process.pid, number)
            with suppress(psutil.NoSuchProcess):  # its parent may have asked already
                process.resume()
        return answer

    return interrupted


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV])
def test_a_body_that_ends_a_fresh_process_is_refused_and_the_next_one_is_read(
    number: signal.Signals, read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyarrow.py").write_text(f"import os; os.kill(os.getpid(), {int(number)})")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        told = f"the process that read it ended with {number.name}"
        with pytest.raises(PayloadError, match=told) as raised:
            read(BODY)
    assert type(raised.value) is PayloadError
    assert len(read(BODY)) == len(ROWS)


SLOW = """
import sys
program = sys.modules["__main__"]
if program.MOST_SECONDS == 0.2:
    while True:
        pass
program.MOST_SECONDS = 0.2
raise ModuleNotFoundError("at the start")
"""


def test_a_body_that_takes_too_much_processor_time_is_refused(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyarrow.py").write_text(SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BodyTooLarge, match="takes more than 30 s of processor time"):
        read(BODY)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_body_whose_process_was_ended_by_something_else_is_read_by_another(
    number: int, interrupted: Callable[[int], Future[Batch]]
) -> None:
    assert len(interrupted(number).result()) == len(ROWS)


def test_an_answer_that_cannot_be_received_is_not_taken_for_that_to_another_body(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(BODY)

    def receive(stream: IO[bytes]) -> tuple[bytes, bytes]:
        stream.read(3)
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(processing, "receive", receive)
        with pytest.raises(MemoryError):
            read(BODY)
    assert read(BODY).vectors.tolist() == ROWS.tolist()


def test_closing_does_not_wait_for_a_body(
    child: Child, read: Read, only: Callable[[], psutil.Process]
) -> None:
    read(BODY)
    process = only()
    process.suspend()
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(read, BODY)
        wait_for(child._lock.locked, "the start of the reading")
        child.close()
        assert "SIGKILL" in str(answer.exception())
    assert has_ended(process)


def test_a_limit_that_was_raised_holds_for_the_next_body(child: Child, read: Read) -> None:
    rows = np.ones((330_000, 64), np.float32)
    body = parquet_file(table_of(rows), compression="none", use_dictionary=False)
    read(BODY)
    # Longer than all the memory that the first body might take.
    assert len(body) > 64 * 1024 * 1024 + 8 * LIMITS.max_body_bytes
    longer = IngestSettings(max_body_bytes=100_000_000, max_batch_vectors=len(rows))
    assert len(child.read(body, Parameters("m"), longer, NOW)) == len(rows)


def test_signals_to_stop_leave_the_process_alone_until_the_service_has_finished(
    read: Read,
    interrupted: Callable[[int], Future[Batch]],
    only: Callable[[], psutil.Process],
) -> None:
    read(BODY)
    first = only()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        assert len(interrupted(number).result()) == len(ROWS)
    assert only() == first


def test_without_the_library_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Read
) -> None:
    absent = "raise ModuleNotFoundError('No module named pyarrow', name='pyarrow')"
    (tmp_path / "pyarrow.py").write_text(absent)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnsupportedMediaType, match="needs pyarrow at the server: pip install"):
        read(BODY)


def test_a_fault_of_the_program_is_no_fault_of_the_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Read
) -> None:
    (tmp_path / "pyarrow.py").write_text("raise AttributeError('broken')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match="the process that reads bodies ended with code 1"):
        read(BODY)
