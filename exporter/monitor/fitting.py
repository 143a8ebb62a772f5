"""Fitting: fits first baselines in a background thread, one model at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple

from exporter.monitor import baseline
from ingest.runtime.errors import MonitorError
from ingest.runtime.worker import await_end
from ingest.store.pool import Pool
from ingest.store.selection import Selection

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 60.0


class _Fit(NamedTuple):
    """A fit under way, and the time from which it may be tried again if it fails."""

    future: Future[None]
    again_at: float


class Fitting:
    """Fits first baselines in its own thread: a fit takes seconds of a core.

    Parameters
    ----------
    pool : Pool
        Of the primary.
    monotonic : callable
        A clock that never steps.
    """

    def __init__(self, pool: Pool, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._monotonic = monotonic
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="baseline")
        self._fits: dict[str, _Fit] = {}
        self._forgotten: list[Future[None]] = []

    def request(self, model_name: str, vectors: int) -> None:
        """Pin the first n vectors of a model, unless a fit is under way or just failed."""
        fit = self._fits.get(model_name)
        if fit is None or (fit.future.done() and self._monotonic() >= fit.again_at):
            future = self._threads.submit(self._pin, model_name, Selection(first=vectors))
            self._fits[model_name] = _Fit(future, self._monotonic() + _RETRY_SECONDS)

    def forget(self, model_name: str) -> None:
        """Forget a model that was removed, or replaced by another of its name."""
        fit = self._fits.pop(model_name, None)
        # A fit that runs already pins nothing: the new model has too few vectors for it.
        if fit is not None and not fit.future.cancel():
            self._forgotten.append(fit.future)

    def stop(self) -> None:
        """Stop after the fit under way. A fit that waits for the server is interrupted."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        futures = [*self._forgotten, *(fit.future for fit in self._fits.values())]
        running = [future for future in futures if not future.cancelled()]
        await_end(lambda seconds: not wait(running, seconds).not_done, self._pool.cut)

    def _pin(self, model_name: str, selection: Selection) -> None:
        try:
            with self._pool.borrow() as connection:
                baseline.pin(connection, model_name, selection, only_first=True)
        # Log every error: the thread has no caller that would see it.
        except Exception as error:
            _log.error(
                "baseline not pinned; it will be tried again",
                exc_info=not isinstance(error, MonitorError | ValueError),
                extra={"model_name": model_name, "error": str(error)},
            )
