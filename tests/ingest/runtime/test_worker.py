"""A worker repeats its work, reports failures, and stops when asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ingest.runtime.worker import Worker
from tests.service import wait_for


def nothing() -> None:
    """Interrupt no one."""


def worker(work: Callable[[], None]) -> tuple[Worker, list[str]]:
    told: list[str] = []
    made = Worker(
        "test",
        work,
        lambda: 0.001,
        failed=lambda error: told.append(str(error)),
        succeeded=lambda: told.append("well"),
        clock=lambda: 1_700_000_000.0,
    )
    return made, told


def test_work_is_repeated_until_the_worker_stops() -> None:
    runs: list[None] = []
    repeated, _ = worker(lambda: runs.append(None))
    repeated.start()
    wait_for(lambda: len(runs) > 3, "the fourth run")
    repeated.stop(nothing)
    done = len(runs)
    assert repeated.is_stopping
    time.sleep(0.05)
    assert len(runs) == done


def test_status_has_the_end_of_the_last_successful_run_and_counts_failures() -> None:
    errors = [ValueError("first"), None, ValueError("second")]
    done = threading.Event()

    def work() -> None:
        error = errors.pop(0)
        if not errors:
            done.set()
            errors.append(ValueError("second"))
        if error is not None:
            raise error

    failing, _ = worker(work)
    before = failing.status
    assert before.timestamp is None
    failing.start()
    wait_for(done.is_set, "the third run")
    failing.stop(nothing)
    assert failing.status.timestamp == 1_700_000_000.0
    assert failing.status.duration is not None
    assert not failing.status.succeeded
    assert failing.status.failures >= 2


def test_the_same_failure_is_reported_once_until_work_succeeds_again() -> None:
    runs = iter(["a", "a", "b", "", "", "b"])
    done = threading.Event()

    def work() -> None:
        run = next(runs, None)
        if run is None:
            done.set()
        elif run:
            raise ValueError(run)

    failing, told = worker(work)
    failing.start()
    wait_for(done.is_set, "the last run")
    failing.stop(nothing)
    assert told == ["a", "b", "well", "b", "well"]


def test_a_run_that_waits_for_a_server_is_interrupted_when_the_worker_stops() -> None:
    released, began = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        released.wait(60)

    hanging, _ = worker(work)
    hanging.start()
    wait_for(began.is_set, "the run")
    hanging.stop(released.set)
    assert released.is_set()


def test_a_worker_that_never_started_stops_at_once() -> None:
    never, told = worker(nothing)
    never.stop(nothing)
    assert told == []


def test_a_worker_that_is_always_woken_runs_again() -> None:
    runs = threading.Semaphore(0)

    def meanwhile() -> None:
        busy.wake()
        time.sleep(0.02)  # longer than the pause

    busy = Worker(
        "test", lambda: runs.release(), lambda: 0.01, failed=lambda _: None, meanwhile=meanwhile
    )
    busy.wake()
    busy.start()
    for _ in range(3):
        assert runs.acquire(timeout=240)
    busy.stop(nothing)


def test_a_worker_that_is_woken_waits_as_long_as_it_pauses_by_then() -> None:
    runs, pause = threading.Semaphore(0), [300.0]
    patient = Worker("test", lambda: runs.release(), lambda: pause[0], failed=lambda _: None)
    patient.start()
    assert runs.acquire(timeout=240)
    assert not runs.acquire(timeout=0.05)
    pause[0] = 0.001
    patient.wake()
    assert runs.acquire(timeout=240)
    patient.stop(nothing)


def test_a_worker_that_is_woken_does_what_it_does_meanwhile() -> None:
    ran, woken = threading.Event(), threading.Event()
    errors: list[str] = []

    def meanwhile() -> None:
        woken.set()
        raise ValueError("meanwhile")

    waiting = Worker(
        "test",
        ran.set,
        lambda: 300.0,
        failed=lambda error: errors.append(str(error)),
        meanwhile=meanwhile,
    )
    waiting.start()
    assert ran.wait(240)
    assert not woken.wait(0.05)
    for _ in range(2):
        woken.clear()
        waiting.wake()
        assert woken.wait(240)
    waiting.stop(nothing)
    assert errors == ["meanwhile"]
    assert waiting.status.failures == 2
    assert waiting.status.timestamp is not None
