"""The work on a data set that a Dask cluster does: it reads, sums and measures.

Workers need the files and this package, but no store: what judges is sent to them, and rows of
history come back.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import dask
import numpy as np
from distributed import CancelledError, Client, Future, KilledWorker, LocalCluster, as_completed
from distributed.client import ClosedClientError
from numpy.typing import NDArray

from exporter.dataset import Dataset, Piece
from exporter.plan import UNUSED, Plan, Run
from exporter.segments import Judge, Row, add_up, measure_run, within
from ingest.runtime.errors import ClusterFailed, PayloadError
from ingest.store.selection import MOST_VECTORS, Selection

Vectors = NDArray[np.float32]
Floats = NDArray[np.float64]
Positions = NDArray[np.int64]

_RUNS_AHEAD = 2
"""Runs under way for each thread of the cluster: bounds what waits in its memory."""

_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": 1,
    # By default Dask has every array of sums given back to the system, and asked for anew:
    # measuring takes four times as long.
    "MALLOC_TRIM_THRESHOLD_": 2**28,
    "MALLOC_MMAP_THRESHOLD_": 2**25,
}
"""Of the processes of workers."""


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """When all vectors of a data set were made, and where they are.

    Attributes
    ----------
    pieces : list of Piece
    first : ndarray of int64, shape (pieces + 1,)
        Place of the first vector of each piece, when pieces follow one another.
    times : ndarray of float64, shape (n,)
        Seconds since the epoch, oldest first.
    order : ndarray of int64, shape (n,)
        Place of each of these vectors; of one time, they keep the order of the files.
    """

    pieces: list[Piece]
    first: Positions
    times: Floats
    order: Positions

    def file(self, position: int) -> str:
        """Tell which file holds a vector; -1 is the newest."""
        place = self.order[position]
        return self.pieces[int(np.searchsorted(self.first, place, "right")) - 1].file


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
    found: dict[Future[Any], list[Floats]] = {}
    with _answers():
        futures = [client.submit(dataset.times, file, pure=False) for file in dataset.files]
        for future in as_completed(futures):
            found[future] = future.result()
            read(1)
    by_file = [found[future] for future in futures]
    times = np.concatenate([np.empty(0), *(group for groups in by_file for group in groups)])
    if not len(times):
        raise PayloadError(f"{dataset.url} has no vectors of model {dataset.model_name}")
    # To microseconds, as the store keeps them: what a baseline was fitted to is told by time.
    np.round(times, 6, out=times)
    pieces = [
        piece
        for file, groups in zip(dataset.files, by_file, strict=True)
        for piece in dataset.pieces(file, list(map(len, groups)))
    ]
    order = np.argsort(times, kind="stable")
    return Stream(pieces, np.cumsum([0, *map(len, pieces)]), times[order], order)


def select(stream: Stream, selection: Selection) -> Positions:
    """Choose vectors for a baseline, by their time.

    Returns
    -------
    ndarray of int64, shape (n,)
        Positions in the order of time; thinned evenly to ``MOST_VECTORS``.
    """
    first, stop = 0, selection.first or len(stream.times)
    if selection.start is not None:
        first = int(np.searchsorted(stream.times, selection.start.timestamp(), "left"))
    if selection.end is not None:
        stop = int(np.searchsorted(stream.times, selection.end.timestamp(), "right"))
    chosen = np.arange(first, min(stop, len(stream.times)))
    stride = -(-len(chosen) // MOST_VECTORS) or 1
    return chosen[stride - 1 :: stride]


def fetch(client: Client, dataset: Dataset, stream: Stream, positions: Positions) -> Vectors:
    """Read the vectors at some positions, at least one: shape (n, d).

    Raises
    ------
    PayloadError
        If they are not vectors of one dimension.
    ClusterFailed
        If workers died or the scheduler went away.
    """
    places = stream.order[positions]
    piece_of = np.searchsorted(stream.first, places, "right") - 1
    chosen = [(number, np.flatnonzero(piece_of == number)) for number in np.unique(piece_of)]
    with _answers():
        futures = [
            client.submit(
                _pick, dataset, stream.pieces[number], places[at] - stream.first[number], pure=False
            )
            for number, at in chosen
        ]
        parts: list[Vectors] = client.gather(futures)
    dimension = parts[0].shape[1]
    vectors = np.empty((len(places), dimension), np.float32)
    for (number, at), part in zip(chosen, parts, strict=True):
        if part.shape[1] != dimension:
            raise PayloadError(
                f"{dataset.name(stream.pieces[number].file)}: has vectors of {part.shape[1]}"
                f" components, files before it of {dimension}"
            )
        vectors[at] = part
    return vectors


def _pick(dataset: Dataset, piece: Piece, numbers: Positions) -> Vectors:
    """Read vectors of a piece by number, shape (n, d), in the order of the numbers."""
    found: Vectors | None = None
    first = 0
    for vectors in dataset.vectors(piece):
        if found is None:
            found = np.empty((len(numbers), vectors.shape[1]), np.float32)
        here = (numbers >= first) & (numbers < first + len(vectors))
        found[here] = vectors[numbers[here] - first]
        first += len(vectors)
    assert found is not None, "a piece has vectors"
    return found


def history(
    client: Client, dataset: Dataset, stream: Stream, plan: Plan, judge: Judge
) -> Iterator[tuple[int, list[Row]]]:
    """Measure the windows of a plan, run by run in the order of time.

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
        If workers died or the scheduler went away.
    """
    with _answers():
        yield from _history(client, dataset, stream, plan, judge)


def _history(
    client: Client, dataset: Dataset, stream: Stream, plan: Plan, judge: Judge
) -> Iterator[tuple[int, list[Row]]]:
    segments = np.empty(len(stream.times), np.int32)
    segments[stream.order] = plan.segments(len(stream.times))
    by_piece = [segments[first:stop] for first, stop in pairwise(stream.first)]
    holds = [np.unique(found[found != UNUSED]) for found in by_piece]
    runs = list(plan.runs())
    needs = [[number for number, held in enumerate(holds) if _meet(held, run)] for run in runs]
    later = Counter(number for needed in needs for number in needed)
    there = client.scatter(judge, broadcast=True, hash=False)
    summed: dict[int, Future[Any]] = {}
    waiting: deque[tuple[int, Future[Any]]] = deque()
    ahead = _RUNS_AHEAD * sum(client.nthreads().values())
    for run, needed in zip(runs, needs, strict=True):
        parts = []
        for number in needed:
            if number not in summed:
                summed[number] = client.submit(
                    add_up, dataset, stream.pieces[number], by_piece[number], there, pure=False
                )
            parts.append(client.submit(within, summed[number], run.reach, pure=False))
            later[number] -= 1
            if not later[number]:
                # The cluster forgets it when the runs that need it are measured.
                del summed[number]
        waiting.append((len(run), client.submit(measure_run, run, parts, there, pure=False)))
        if len(waiting) > ahead:
            yield _next(waiting)
    while waiting:
        yield _next(waiting)


def _meet(held: NDArray[np.int32], run: Run) -> bool:
    first, stop = np.searchsorted(held, run.reach)
    return bool(first < stop)


def _next(waiting: deque[tuple[int, Future[Any]]]) -> tuple[int, list[Row]]:
    checks, future = waiting.popleft()
    return checks, future.result()


@contextmanager
def _answers() -> Iterator[None]:
    """Turn what a lost task or scheduler raises into ClusterFailed.

    Errors of the data pass through; none is an OSError, which a connection that failed is.
    """
    try:
        yield
    except (KilledWorker, CancelledError, ClosedClientError, OSError) as error:
        said = str(error) or type(error).__name__
        raise ClusterFailed(f"the Dask cluster lost work: {said}") from error
