"""Periodic work in its own thread: start, stop, failures and status in one place."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

_PATIENCE_SECONDS = 1.0
"""Time that work may go on waiting for a server after it was asked to stop."""


@dataclass(frozen=True, slots=True)
class WorkStatus:
    """How periodic work goes.

    Attributes
    ----------
    succeeded : bool
        Whether the last run succeeded; False before the first run ends.
    timestamp : float or None
        When the last successful run ended, in seconds since the epoch.
    duration : float or None
        Seconds that it took.
    failures : int
        Runs that failed so far.
    """

    succeeded: bool = False
    timestamp: float | None = None
    duration: float | None = None
    failures: int = 0


class Worker:
    """Runs a function again and again until it is stopped.

    Parameters
    ----------
    name : str
        Name of the thread.
    work : callable
        One run. An error that it raises is counted, and the next run follows.
    pause : callable
        Gives the seconds to wait after a run; asked again whenever the worker is woken.
    succeeded : callable
        Called after the first successful run, and after the first one that follows a failure.
    failed : callable
        Called with an error, unless the run before failed with the same one: a server that is
        away for an hour is one line in the log.
    meanwhile : callable
        Called between two runs whenever the worker is woken. An error that it raises is counted
        like one of a run.
    clock : callable
        Wall clock, for the timestamp.

    Attributes
    ----------
    status : WorkStatus
        Replaced as a whole after each run.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        pause: Callable[[], float],
        *,
        failed: Callable[[Exception], None],
        succeeded: Callable[[], None] = lambda: None,
        meanwhile: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._work = work
        self._pause = pause
        self._failed = failed
        self._succeeded = succeeded
        self._meanwhile = meanwhile
        self._clock = clock
        self._stop = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._last_failure: str | None = None
        self.status = WorkStatus()

    @property
    def is_stopping(self) -> bool:
        """Whether the worker was asked to stop."""
        return self._stop.is_set()

    def start(self) -> None:
        """Start the thread; the first run begins at once."""
        self._thread.start()

    def wake(self) -> None:
        """Let the worker do soon what it does meanwhile, and ask again how long to wait."""
        self._woken.set()

    def stop(self, cut: Callable[[], None]) -> None:
        """Stop after the run under way.

        Parameters
        ----------
        cut : callable
            Interrupts a run that waits for a server; called while the run goes on.
        """
        self._stop.set()
        self.wake()
        if self._thread.ident is not None:
            await_end(self._has_ended, cut)

    def _has_ended(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            start = time.perf_counter()
            try:
                self._work()
            # Log every error: the thread has no caller that would see it.
            except Exception as error:
                self._count_failure(error)
            else:
                self._count_success(time.perf_counter() - start)
            self._wait()

    def _wait(self) -> None:
        start = time.monotonic()
        # Not once the time is over: a worker that is always woken would never run again.
        while (left := start + self._pause() - time.monotonic()) > 0 and self._woken.wait(left):
            if self._stop.is_set():
                return
            self._woken.clear()
            try:
                self._meanwhile()
            except Exception as error:
                self._count_failure(error)

    def _count_success(self, duration: float) -> None:
        was_well = self.status.succeeded
        self._last_failure = None
        self.status = WorkStatus(True, self._clock(), duration, self.status.failures)
        if not was_well:
            self._succeeded()

    def _count_failure(self, error: Exception) -> None:
        self.status = replace(self.status, succeeded=False, failures=self.status.failures + 1)
        failure = repr(error)
        if failure != self._last_failure:
            self._last_failure = failure
            self._failed(error)


def await_end(has_ended: Callable[[float], bool], cut: Callable[[], None]) -> None:
    """Wait until work has ended; interrupt it again and again while it has not.

    Parameters
    ----------
    has_ended : callable
        Waits for the given seconds and tells whether the work has ended.
    cut : callable
        Interrupts what the work may be waiting for.
    """
    while not has_ended(_PATIENCE_SECONDS):
        cut()
