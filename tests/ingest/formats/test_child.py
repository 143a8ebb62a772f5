"""The process that reads Parquet: what a body can do to it, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest

from ingest.formats.child import Child
from ingest.formats.parameters import Parameters
from ingest.runtime.errors import BodyTooLarge, PayloadError, UnsupportedMediaType
from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch
from tests.ingest.formats.bodies import NOW, ROWS, parquet_file, table_of
from tests.service import wait_for

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


def processes(of: int | None = None) -> list[psutil.Process]:
    """The processes of children that run."""
    return [
        process
        for process in psutil.Process(of).children()
        if "ingest.formats.confinement" in process.cmdline()
    ]


@pytest.fixture
def only() -> Callable[[], psutil.Process]:
    """Find the process that a test started."""
    before = processes()

    def only() -> psutil.Process:
        [process] = [each for each in processes() if each not in before]
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
            process.resume()
        return answer

    return interrupted


@pytest.mark.parametrize(
    ("number", "error", "told"),
    [
        (signal.SIGABRT, PayloadError, "the process that read it ended with SIGABRT"),
        (signal.SIGSEGV, PayloadError, "the process that read it ended with SIGSEGV"),
        (signal.SIGALRM, BodyTooLarge, "to read the body takes more than 30 s"),
    ],
)
def test_a_body_that_ends_the_process_is_refused_and_the_next_one_is_read(
    number: int,
    error: type[PayloadError],
    told: str,
    interrupted: Callable[[int], Future[Batch]],
    read: Read,
) -> None:
    refused = interrupted(number).exception()
    assert type(refused) is error
    assert told in str(refused)
    assert len(read(BODY)) == len(ROWS)


def test_a_body_whose_process_is_killed_from_outside_is_read_by_another(
    interrupted: Callable[[int], Future[Batch]],
) -> None:
    assert len(interrupted(signal.SIGKILL).result()) == len(ROWS)


def test_signals_to_stop_leave_the_process_alone_until_the_service_has_finished(
    read: Read,
    interrupted: Callable[[int], Future[Batch]],
    only: Callable[[], psutil.Process],
) -> None:
    read(BODY)
    first = only()
    for number in (signal.SIGTERM, signal.SIGINT):
        assert len(interrupted(number).result()) == len(ROWS)
    assert only() == first


PROGRAM = """
import sys
from ingest.formats.child import Child
from tests.ingest.formats.test_child import BODY, LIMITS, NOW, Parameters
child = Child()
child.read(BODY, Parameters("m"), LIMITS, NOW)
print("read", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [None, signal.SIGKILL])
def test_the_process_ends_with_the_program_however_that_ends(number: int | None) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "read\n"
        [process] = processes(program.pid)
        if number is None:
            program.communicate()
        else:
            os.kill(program.pid, number)
    wait_for(lambda: not process.is_running(), "the end of the process")


def test_the_process_knows_no_secret_of_the_service(
    monkeypatch: pytest.MonkeyPatch, read: Read, only: Callable[[], psutil.Process]
) -> None:
    monkeypatch.setenv("EMBEDDING_DRIFT_DATABASE_CONNECTION_STRING", "secret")
    monkeypatch.setenv("PGPASSWORD", "secret")
    read(BODY)
    assert "secret" not in only().environ().values()


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
