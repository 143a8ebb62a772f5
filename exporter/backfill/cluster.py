"""The work on a data set that a Dask cluster does: it reads, sums and measures.

Workers need the files and this package, but no store: what judges is sent to them, and rows of
history come back.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import dask
import numpy as np
from distributed import CancelledError, Client, Future, KilledWorker, LocalCluster
from distributed.client import ClosedClientError

from exporter.backfill.parquet import Dataset, RowGroup
from exporter.backfill.plan import Run
from exporter.backfill.replay import Judge, Row, measure_run
from exporter.backfill.sorting import Scratch, SortedRoute, slots_of
from exporter.backfill.timeline import Places, Route, Stream
from exporter.stats.arrays import Numbers, Positions, Vectors
from ingest.runtime.errors import ClusterFailed, MonitorError, PayloadError

_AHEAD = 2
"""Tasks under way for each that is worked on."""

_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": 1,
    # By default Dask has every array of sums given back to the system, and asked for anew:
    # measuring takes four times as long.
    "MALLOC_TRIM_THRESHOLD_": 2**28,
    "MALLOC_MMAP_THRESHOLD_": 2**25,
}
"""Of the processes of workers."""


@contextmanager
def connected(scheduler: str | None) -> Iterator[Client]:
    """Connect to a scheduler or, without one, start workers here.

    Raises
    ------
    ClusterFailed
        If the scheduler cannot be reached.
    """
    # Every step of theirs is told at "info", a level that importing them has set.
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
    """Start workers on this machine, a process each; by default one for each core."""
    with (
        dask.config.set({"distributed.nanny.pre-spawn-environ": _ENVIRONMENT}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,  # what a task raises is raised here, too
            security=True,  # whoever reaches the ports of others could run code
        ) as local,
        Client(local) as client,
    ):
        yield client


def survey(client: Client, dataset: Dataset, read: Callable[[int], object]) -> Stream:
    """Read the times of a data set's vectors.

    Parameters
    ----------
    client : Client
    dataset : Dataset
    read : callable
        Is told how many more files were read.

    Raises
    ------
    PayloadError
        If a file cannot be used, or the model has no vectors.
    ClusterFailed
        If workers died or the scheduler went away.
    """
    times = []
    for found in _results(client, Dataset.times, [dataset], zip(dataset.files)):
        times.append(found)
        read(1)
    return Stream.of(dataset, times)


def fetch(client: Client, dataset: Dataset, stream: Stream, positions: Positions) -> Vectors:
    """Read the vectors at some positions, at least one: shape (n, d).

    Raises
    ------
    PayloadError
        If they are not vectors of one dimension.
    ClusterFailed
        If workers died or the scheduler went away.
    """
    # In the order of the files, each row group is read once.
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


def _fetch(dataset: Dataset, group: RowGroup, numbers: Numbers) -> Vectors:
    return np.concatenate(list(dataset.vectors(group, numbers)))


def sort(
    client: Client,
    dataset: Dataset,
    stream: Stream,
    order: Positions,
    scratch: Scratch,
    wrote: Callable[[int], object],
) -> Places:
    """Write vectors to the scratch, and tell where they are there.

    Parameters
    ----------
    client : Client
    dataset : Dataset
    stream : Stream
    order : ndarray of int64, shape (n,)
        Which, in the order of time.
    scratch : Scratch
    wrote : callable
        Is told how many more vectors were written.

    Raises
    ------
    PayloadError
        If a vector cannot be used.
    ClusterFailed
        If workers died, the scheduler went away or the scratch cannot be used.
    """
    by_place = np.argsort(order)
    bounds = np.searchsorted(order, stream.first, sorter=by_place).tolist()
    places = Places(np.empty(len(order), np.int32), np.empty(len(order), np.int32))

    def work() -> Iterator[tuple[int, RowGroup, Numbers, Numbers]]:
        for group, (first, stop) in enumerate(pairwise(bounds)):
            if first < stop:
                positions = by_place[first:stop]
                numbers = (order[positions] - stream.first[group]).astype(np.int32)
                places.groups[positions] = group
                places.numbers[positions] = slots_of(positions)
                yield group, stream.groups[group], numbers, places.numbers[positions]

    for count in _results(client, _sort, [dataset, scratch], work()):
        wrote(count)
    return places


def _sort(
    dataset: Dataset,
    scratch: Scratch,
    number: int,
    group: RowGroup,
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
    """Measure the windows of runs, each with the way to its vectors.

    Yields
    ------
    checks : int
        How many check times the run has.
    rows : list of Row
        What the windows said that were wanted.

    Raises
    ------
    PayloadError
        If a vector cannot be used.
    ClusterFailed
        If workers died, the scheduler went away or the scratch cannot be used.
    """
    yield from _results(client, _measure, [dataset, judge], runs)


def _measure(
    dataset: Dataset, judge: Judge, run: Run, route: Route | SortedRoute
) -> tuple[int, list[Row]]:
    vectors = route.vectors(dataset, judge.detector.dimension)
    return len(run), measure_run(run, vectors, judge)


def threads(client: Client) -> int:
    """Count the tasks that the cluster works on at a time; at least one."""
    with _answers():
        return max(sum(map(int, client.nthreads().values())), 1)


def _results(
    client: Client,
    work: Callable[..., Any],
    shared: list[Any],
    arguments: Iterable[tuple[Any, ...]],
) -> Iterator[Any]:
    """Have work done on what is shared and each of some arguments; give results in their order.

    No more is under way than workers need to stay busy: arguments and results wait somewhere.
    """
    with _answers():
        if client.status == "closed":
            raise ClosedClientError("the scheduler went away")
        there = client.scatter(shared, broadcast=True, hash=False)
        most = _AHEAD * threads(client)
        waiting: deque[Future[Any]] = deque()
        for given in arguments:
            waiting.append(client.submit(work, *there, *given, pure=False))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def _answers() -> Iterator[None]:
    """Turn what a lost task or scheduler raises into ClusterFailed.

    What workers raise on purpose passes through. Of all else, only a connection that failed is an
    OSError.
    """
    try:
        yield
    except MonitorError:
        raise
    except (KilledWorker, CancelledError, ClosedClientError, OSError) as error:
        said = str(error) or type(error).__name__
        raise ClusterFailed(f"the Dask cluster lost work: {said}") from error
