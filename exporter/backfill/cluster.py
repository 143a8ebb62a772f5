"""Run the work on a data set in a Dask cluster: read times, sort vectors, measure drift.

Workers need the files and this package, but not the store: they receive the baseline, and return
rows of history.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Set
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import pairwise
from tempfile import TemporaryDirectory
from typing import Any

import dask
import numpy as np
from distributed import CancelledError, Client, Future, KilledWorker, LocalCluster, Worker
from distributed.client import ClosedClientError

from exporter.backfill.dataset import Dataset, Hashes, Part
from exporter.backfill.plan import Run
from exporter.backfill.replay import Judge, Row, measure_run
from exporter.backfill.sorting import Scratch, SortedRoute, slots_of
from exporter.backfill.timeline import Places, Route, Stream
from exporter.stats.arrays import Numbers, Positions, Vectors
from ingest.runtime.errors import ClusterFailed, MonitorError, PayloadError

_log = logging.getLogger(__name__)

_AHEAD = 2
"""Submitted tasks for each thread of the cluster."""

_PAUSE_SECONDS = 0.1
"""Between two questions whether calls still run."""

_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": 1,
    # With Dask's defaults, memory of every array is returned to the system and requested again.
    # Measuring then takes four times as long.
    "MALLOC_TRIM_THRESHOLD_": 2**28,
    "MALLOC_MMAP_THRESHOLD_": 2**25,
}
"""Environment variables of worker processes."""


@contextmanager
def connected(scheduler: str | None) -> Iterator[Client]:
    """Connect to a scheduler. Without one, start workers on this machine.

    Raises
    ------
    ClusterFailed
        If the scheduler cannot be reached.
    """
    # Importing distributed sets its level to "info", at which it logs every step.
    root = logging.getLogger()
    logging.getLogger("distributed").setLevel(max(logging.WARNING, root.level))
    if scheduler is None:
        with started() as client:
            yield client
    else:
        try:
            client = Client(scheduler)
        except (OSError, ValueError) as error:
            raise ClusterFailed(f"no scheduler answers at {scheduler}: {error}") from error
        with client:
            yield client


@contextmanager
def started(workers: int | None = None) -> Iterator[Client]:
    """Start worker processes on this machine, by default one for each core.

    Raises
    ------
    ClusterFailed
        If they do not start.
    """
    with ExitStack() as stack:
        try:
            parent = dask.config.get("temporary-directory", None)
            # Dask would leave a folder that all users of the machine share.
            folder = TemporaryDirectory(prefix="embedding-drift-", dir=parent)
            environment = {
                "distributed.nanny.pre-spawn-environ": _ENVIRONMENT,
                "temporary-directory": stack.enter_context(folder),
            }
            stack.enter_context(dask.config.set(environment))
            local = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,  # errors of tasks are raised here
                security=True,  # without it, anyone who reaches the ports can run code
            )
            stack.enter_context(local)
            client = stack.enter_context(Client(local))
        except (RuntimeError, OSError) as error:
            reason = error.__cause__ or error
            raise ClusterFailed(f"workers do not start on this machine: {reason}") from error
        yield client


def survey(client: Client, dataset: Dataset, read: Callable[[int], object]) -> Stream:
    """Read the times of a data set's vectors.

    As in the service, a vector is left out if the one before it of the same id is the same.

    Parameters
    ----------
    client : Client
    dataset : Dataset
    read : callable
        Called with the number of files read since the last call.

    Raises
    ------
    PayloadError
        If a file cannot be used, or the model has no vectors.
    ClusterFailed
        If workers died or the scheduler cannot be reached.
    """
    surveys = []
    with closing(_results(client, Dataset.survey, [dataset], zip(dataset.files))) as results:
        for file, found in zip(dataset.files, results, strict=True):
            surveys.append(found)
            if found.skipped:
                details = {"file": dataset.name(file), "rows": found.skipped, "first": found.reason}
                _log.warning("rows that cannot be used are skipped", extra=details)
            read(1)
    stream = Stream.of(dataset, surveys)
    later, earlier = stream.repeats(surveys)
    if len(later) and not dataset.once:
        positions = np.union1d(later, earlier)
        hashes = _fingerprints(client, dataset, stream, positions)
        one, other = (hashes[np.searchsorted(positions, each)] for each in (later, earlier))
        later = later[one == other]
    if len(later):
        _log.info("vectors that came again are left out", extra={"vectors": len(later)})
        stream = stream.without(later)
    return stream


def _fingerprints(client: Client, dataset: Dataset, stream: Stream, positions: Positions) -> Hashes:
    """Return hashes of the vectors at one or more positions, shape (n,)."""
    order = np.sort(stream.order[positions])
    stretches = stream.route(order).stretches
    found = np.concatenate(list(_results(client, Dataset.fingerprints, [dataset], stretches)))
    return found[np.searchsorted(order, stream.order[positions])]


def fetch(client: Client, dataset: Dataset, stream: Stream, positions: Positions) -> Vectors:
    """Read the vectors at one or more positions, shape (n, d).

    Raises
    ------
    PayloadError
        If a vector cannot be used, or their dimensions differ.
    ClusterFailed
        If workers died or the scheduler cannot be reached.
    """
    # Sorted in the order of the files, so that each part is read once.
    order = np.sort(stream.order[positions])
    stretches = stream.route(order).stretches
    parts = list(_results(client, _fetch, [dataset], stretches))
    for (group, _), part in zip(stretches, parts, strict=True):
        if part.shape[1] != parts[0].shape[1]:
            raise PayloadError(
                f"{dataset.name(group.file)}: has vectors of {part.shape[1]}"
                f" components, files before it of {parts[0].shape[1]}"
            )
    vectors = np.concatenate(parts)
    return vectors[np.searchsorted(order, stream.order[positions])]


def _fetch(dataset: Dataset, group: Part, numbers: Numbers) -> Vectors:
    return np.concatenate(list(dataset.vectors(group, numbers)))


def sort(
    client: Client,
    dataset: Dataset,
    stream: Stream,
    order: Positions,
    scratch: Scratch,
    wrote: Callable[[int], object],
) -> Places:
    """Write vectors to the scratch folder, and return their places in it.

    Parameters
    ----------
    client : Client
    dataset : Dataset
    stream : Stream
    order : ndarray of int64, shape (n,)
        Indices of the vectors, in the order of time.
    scratch : Scratch
    wrote : callable
        Called with the number of vectors written since the last call.

    Raises
    ------
    PayloadError
        If a vector cannot be used.
    ClusterFailed
        If workers died, or the scheduler or the scratch folder cannot be used.
    """
    by_place = np.argsort(order)
    bounds = np.searchsorted(order, stream.first, sorter=by_place).tolist()
    places = Places(np.empty(len(order), np.int32), np.empty(len(order), np.int32))

    def work() -> Iterator[tuple[int, Part, Numbers, Numbers]]:
        for group, (first, stop) in enumerate(pairwise(bounds)):
            if first < stop:
                positions = by_place[first:stop]
                numbers = (order[positions] - stream.first[group]).astype(np.int32)
                places.groups[positions] = group
                places.numbers[positions] = slots_of(positions)
                yield group, stream.groups[group], numbers, places.numbers[positions]

    with closing(_results(client, _sort, [dataset, scratch], work())) as counts:
        for count in counts:
            wrote(count)
    return places


def _sort(
    dataset: Dataset,
    scratch: Scratch,
    number: int,
    group: Part,
    numbers: Numbers,
    slots: Numbers,
) -> int:
    vectors = dataset.vectors(group, numbers, scratch.dimension)
    scratch.write(number, slots, vectors)
    return len(numbers)


def history(
    client: Client,
    dataset: Dataset,
    judge: Judge,
    runs: Iterable[tuple[Run, Route | SortedRoute]],
) -> Iterator[tuple[int, list[Row]]]:
    """Measure the windows of runs. Each run comes with the way to read its vectors.

    Yields
    ------
    checks : int
        Number of check times of the run.
    rows : list of Row
        Rows of history of the windows that the run asks for.

    Raises
    ------
    PayloadError
        If a vector cannot be used.
    ClusterFailed
        If workers died, or the scheduler or the scratch folder cannot be used.
    """
    yield from _results(client, _measure, [dataset, judge], runs)


def _measure(
    dataset: Dataset, judge: Judge, run: Run, route: Route | SortedRoute
) -> tuple[int, list[Row]]:
    vectors = route.vectors(dataset, judge.detector.dimension)
    return len(run), measure_run(run, vectors, judge)


def threads(client: Client) -> int:
    """Return how many tasks the cluster runs at a time; at least 1."""
    with _answers():
        return max(sum(map(int, client.nthreads().values())), 1)


def _results(
    client: Client,
    work: Callable[..., Any],
    shared: list[Any],
    arguments: Iterable[tuple[Any, ...]],
) -> Generator[Any, None, None]:
    """Call ``work(*shared, *arguments)`` in the cluster for each item; yield results in order.

    Only as many calls are submitted as keep the workers busy, because waiting arguments and results
    take memory. When this is closed or an error ends it, no call runs any more.
    """
    with _answers():
        if client.status == "closed":
            raise ClosedClientError("the scheduler went away")
        scattered = client.scatter(shared, broadcast=True, hash=False)
        most = _AHEAD * threads(client)
        waiting: deque[Future[Any]] = deque()
        try:
            for given in arguments:
                waiting.append(client.submit(work, *scattered, *given, pure=False))
                if len(waiting) > most:
                    yield waiting[0].result()
                    waiting.popleft()
            while waiting:
                yield waiting[0].result()
                waiting.popleft()
        finally:
            if waiting:
                _end(client, list(waiting))


def _end(client: Client, futures: list[Future[Any]]) -> None:
    """Cancel calls that wait, and wait for those that run: nothing can stop them.

    They may write to a folder that is removed afterwards.
    """
    keys = {future.key for future in futures}
    # Whatever ends the work is reported. It may be that the cluster is gone.
    with suppress(CancelledError, ClosedClientError, OSError):
        client.cancel(futures, force=True)
        running = True
        while running:
            # A call that was sent to its worker a moment ago begins there.
            time.sleep(_PAUSE_SECONDS)
            running = any(client.run(_runs, keys, on_error="ignore").values())


def _runs(keys: Set[str], dask_worker: Worker) -> bool:
    """Return whether a worker runs one of some calls."""
    return any(task.key in keys for task in dask_worker.state.all_running_tasks)


@contextmanager
def _answers() -> Iterator[None]:
    """Raise ClusterFailed if a task was lost or the scheduler cannot be reached.

    Errors of this project that workers raise are not changed. An OSError is then always one of the
    connection.
    """
    try:
        yield
    except MonitorError:
        raise
    except (KilledWorker, CancelledError, ClosedClientError, OSError) as error:
        reason = str(error) or type(error).__name__
        raise ClusterFailed(f"the Dask cluster lost work: {reason}") from error
