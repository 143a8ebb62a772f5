"""Backfill: puts the past of a model into the store, measured as the exporter would have."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import numpy as np
import psycopg
from distributed import Client
from numpy.typing import NDArray
from tqdm import tqdm

from exporter.backfill import cluster
from exporter.backfill.dataset import Dataset
from exporter.backfill.plan import Fitted, Plan, Run, check_times, recorded
from exporter.backfill.replay import Judge, Row
from exporter.backfill.sorting import Scratch, SortedRoute
from exporter.backfill.timeline import Route, Stream
from exporter.detector.detector import MIN_REFERENCE
from exporter.monitor import baseline
from exporter.monitor.windows import Limits
from exporter.stats.arrays import Floats
from ingest.runtime import time_zone
from ingest.runtime.errors import NotFound, PayloadError
from ingest.runtime.settings.settings import MonitoringSettings, Settings
from ingest.store import baselines, history
from ingest.store.connection import ConnectionString, connect, unavailable
from ingest.store.dimension import check_dimension
from ingest.store.partitions import history_days
from ingest.store.selection import Selection

_log = logging.getLogger(__name__)

_MOST_CHECKS = 1_000_000
"""About nine years at 5-minute intervals. More usually means a wrong timestamp."""
_SHARES = 4
"""Minimum number of runs for each task that the cluster works on at a time."""
_MOST_READS = 4
"""How often files may be read, on average, before it is better to sort them."""


@dataclass(frozen=True, slots=True)
class Backfill:
    """A data set of one model, and the cluster that works on it.

    Attributes
    ----------
    client : Client
    dataset : Dataset
    scratch : str or None
        Place for files that are not in the order of time; all workers reach it.
    """

    client: Client
    dataset: Dataset
    scratch: str | None

    @classmethod
    @contextmanager
    def open(
        cls, dataset: Dataset, scheduler: str | None, scratch: str | None = None
    ) -> Iterator[Backfill]:
        """Connect to the cluster; see `cluster.connected`.

        Workers of this machine have a temporary folder for scratch, if there is no other.
        """
        with ExitStack() as stack:
            if scratch is None and scheduler is None:
                scratch = stack.enter_context(TemporaryDirectory(prefix="embedding-drift-"))
            yield cls(stack.enter_context(cluster.connected(scheduler)), dataset, scratch)

    def pin(
        self, store: ConnectionString, selection: Selection, zone: ZoneInfo = time_zone.UTC
    ) -> int:
        """Pin a baseline of the vectors that are selected, by their time.

        The seasons follow the local time of the zone.

        Returns
        -------
        int
            The version pinned.

        Raises
        ------
        PayloadError
            If the files cannot be used, or no baseline can be fitted to the vectors.
        DimensionMismatch
            If the model's vectors have another dimension.
        StoreUnavailable, ClusterFailed
        """
        dimension = self.dataset.dimension()
        if dimension is not None:
            with _connected(store) as connection:
                check_dimension(connection, self.dataset.model_name, dimension)
        stream = self.survey()
        positions = stream.select(selection)
        name, url = self.dataset.model_name, self.dataset.url
        if len(positions) < MIN_REFERENCE:
            raise PayloadError(
                f"{url} has {len(positions)} vectors of model {name} ({selection}); a baseline"
                f" needs at least {MIN_REFERENCE}"
            )
        vectors = cluster.fetch(self.client, self.dataset, stream, positions)
        with _connected(store) as connection:
            source = f"{url}: {selection}"
            times = stream.times[positions]
            try:
                return baseline.pin_vectors(connection, name, vectors, times, source, zone)
            except PayloadError:
                raise
            except ValueError as error:
                raise PayloadError(f"baseline of {name} ({source}): {error}") from error

    def run(self, store: ConnectionString, settings: Settings) -> int:
        """Measure windows against the baseline in use at all check times without a record.

        What the exporter recorded against any baseline is a record, too. Between the oldest and the
        newest vector of the baseline, nothing can be measured.

        The rows of some check times are stored before those of the next, all or none: a restart
        goes on where this stopped.

        Returns
        -------
        int
            Rows of history stored.

        Raises
        ------
        NotFound
            If the model has no baseline, or loses it meanwhile: it is removed, for example.
        PayloadError
            If the files cannot be used.
        StoreUnavailable, ClusterFailed
        """
        with _connected(store) as connection:
            judge, fitted, pinned_at = _load(
                connection, self.dataset.model_name, settings.monitoring
            )
        stream = self.survey()
        interval = settings.monitoring.check_interval
        self._check(stream, interval)
        checks = check_times(stream.times[0], stream.times[-1], interval)
        _warn_of_retention(checks, settings.database.retention_days)
        with _connected(store) as connection:
            recorded_at = {
                name: _recorded(connection, judge, name, checks, interval) for name in judge.limits
            }
        # There, windows would be empty, and their rows would hide what the exporter recorded.
        wanted = {name: ~found & ~fitted.spans(checks) for name, found in recorded_at.items()}
        due = np.any(list(wanted.values()), axis=0)
        if not due.any():
            return 0
        wanted = {name: when[due] for name, when in wanted.items()}
        plan = Plan.of(stream.times, checks[due], wanted, judge.limits, fitted)
        stored = 0
        before = len(checks) - len(plan.whole)
        with (
            tqdm(total=len(checks), initial=before, unit=" check times", disable=None) as bar,
            closing(self.measure(stream, plan, judge)) as measured,
        ):
            for done, rows in measured:
                with (
                    _connected(store) as connection,
                    baselines.hold(connection, judge.model_name, judge.version, pinned_at),
                ):
                    history.fill(connection, rows)
                stored += len(rows)
                bar.update(done)
        return stored

    def survey(self) -> Stream:
        """Read when all vectors were made; see `cluster.survey`."""
        with tqdm(total=len(self.dataset.files), unit=" files", disable=None) as bar:
            return cluster.survey(self.client, self.dataset, bar.update)

    def measure(
        self, stream: Stream, plan: Plan, judge: Judge
    ) -> Generator[tuple[int, list[Row]], None, None]:
        """Measure the windows of a plan, run by run in the order of time; see `cluster.history`.

        Files that are not in that order are first put into it, in the scratch.
        """
        with self._routes(stream, plan, judge.detector.dimension) as routes:
            yield from cluster.history(self.client, self.dataset, judge, routes)

    @contextmanager
    def _routes(
        self, stream: Stream, plan: Plan, dimension: int
    ) -> Iterator[Iterable[tuple[Run, Route | SortedRoute]]]:
        """Yield each run with the route that reads its vectors."""
        least = _SHARES * cluster.threads(self.client)
        order = stream.order[plan.kept]
        # Twice, because all runs together would take as much memory as the plan.
        effort = sum(stream.places(order[run.vectors]).effort for run in plan.runs(least))
        if effort <= _MOST_READS * stream.effort:
            yield ((run, stream.route(order[run.vectors])) for run in plan.runs(least))
            return
        if self.scratch is None:
            raise PayloadError(
                f"{self.dataset.url} is not in the order of time; set --scratch to a folder or URL"
                " that all workers can reach; the files are sorted there"
            )
        with Scratch.open(self.scratch, dimension) as scratch:
            with tqdm(total=len(order), unit=" vectors sorted", disable=None) as bar:
                places = cluster.sort(self.client, self.dataset, stream, order, scratch, bar.update)
            yield (
                (run, SortedRoute(scratch, places.part(run.vectors))) for run in plan.runs(least)
            )

    def _check(self, stream: Stream, interval: int) -> None:
        checks = int((stream.times[-1] - stream.times[0]) // interval)
        if checks > _MOST_CHECKS:
            ends = " and ".join(
                f"{datetime.fromtimestamp(stream.times[at], UTC):%Y-%m-%d %H:%M:%S} UTC"
                f" (in {self.dataset.name(stream.file(at))})"
                for at in (0, -1)
            )
            raise PayloadError(
                f"between {ends} lie about {checks} check times of monitoring.check_interval; at"
                f" most {_MOST_CHECKS} are measured. Is a time wrong in column"
                f" {self.dataset.time_column!r}?"
            )


@contextmanager
def _connected(store: ConnectionString) -> Iterator[psycopg.Connection]:
    with unavailable(), connect(store) as connection:
        yield connection


def _load(
    connection: psycopg.Connection, model_name: str, settings: MonitoringSettings
) -> tuple[Judge, Fitted, datetime]:
    version = baselines.in_use(connection, model_name)
    if version is None:
        raise NotFound(f"model {model_name} has no baseline yet; pin one first")
    found = baseline.load_or_fit(connection, model_name, version)
    detector = found.detector
    limits = {name: Limits.of(window, detector.n_reference) for name, window in settings.windows}
    stale_after = settings.stale_after_of(model_name)
    judge = Judge(model_name, version, detector, limits, stale_after, found.varies, found.zone)
    fitted = Fitted(found.first_at.timestamp(), found.last_at.timestamp())
    return judge, fitted, found.pinned_at


def _recorded(
    connection: psycopg.Connection, judge: Judge, window_name: str, checks: Floats, interval: int
) -> NDArray[np.bool_]:
    times = history.times(connection, judge.model_name, window_name, judge.version)
    return recorded(checks, times, interval)


def _warn_of_retention(checks: Floats, retention_days: int) -> None:
    kept = history_days(retention_days)
    expired = int((checks < time.time() - kept * 86_400).sum())
    if expired:
        _log.warning(
            "history this old is dropped at the next upkeep; see database.retention_days",
            extra={"check_times": expired, "kept_days": kept},
        )
