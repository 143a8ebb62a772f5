"""Backfill: puts the past of a model into the store, measured as the exporter would have."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import psycopg
from distributed import Client
from numpy.typing import NDArray
from tqdm import tqdm

from exporter import baseline, cluster
from exporter.cluster import Stream
from exporter.dataset import Dataset
from exporter.plan import Fitted, Limits, Plan, check_times, recorded
from exporter.score import MIN_REFERENCE
from exporter.segments import Judge
from exporter.windows import capacity
from ingest.runtime.errors import PayloadError
from ingest.runtime.settings import MonitoringSettings, Settings
from ingest.store import baselines, history
from ingest.store.partitions import history_days
from ingest.store.pool import ConnectionString, connect, unavailable
from ingest.store.selection import Selection

Floats = NDArray[np.float64]

_log = logging.getLogger(__name__)

_MOST_CHECKS = 1_000_000
"""Nine years of five minutes; more come from a time that is wrong."""


@dataclass(frozen=True, slots=True)
class Backfill:
    """A data set of one model, and the cluster that works on it."""

    client: Client
    dataset: Dataset

    @classmethod
    @contextmanager
    def open(
        cls, url: str, model_name: str, time_column: str, scheduler: str | None
    ) -> Iterator[Backfill]:
        """Find the files and connect to the cluster; see `Dataset` and `cluster.connected`."""
        dataset = Dataset.open(url, model_name, time_column)
        with cluster.connected(scheduler) as client:
            yield cls(client, dataset)

    def pin(self, store: ConnectionString, selection: Selection) -> int:
        """Pin a baseline of the vectors that are selected, by their time.

        Returns
        -------
        int
            The version pinned.

        Raises
        ------
        PayloadError
            If the files cannot be used, or the vectors are too few.
        DimensionMismatch
            If the model's vectors have another dimension.
        StoreUnavailable, ClusterFailed
        """
        dimension = self.dataset.dimension()
        if dimension is not None:
            with _connected(store) as connection:
                baselines.check_dimension(connection, self.dataset.model_name, dimension)
        stream = self._survey()
        positions = cluster.select(stream, selection)
        name, url = self.dataset.model_name, self.dataset.url
        if len(positions) < MIN_REFERENCE:
            raise PayloadError(
                f"{url} has {len(positions)} vectors of model {name} ({selection}); a baseline"
                f" needs at least {MIN_REFERENCE}"
            )
        vectors = cluster.fetch(self.client, self.dataset, stream, positions)
        with _connected(store) as connection:
            source = f"{url}: {selection}"
            return baseline.bring(connection, name, vectors, stream.times[positions], source)

    def run(self, store: ConnectionString, settings: Settings) -> int:
        """Measure windows against the newest baseline at all check times without a record.

        The rows of some check times are stored before those of the next, all or none: a restart
        goes on where this stopped.

        Returns
        -------
        int
            Rows of history stored.

        Raises
        ------
        NotFound
            If the model has no baseline.
        PayloadError
            If the files cannot be used.
        StoreUnavailable, ClusterFailed
        """
        with _connected(store) as connection:
            judge, fitted = _load(connection, self.dataset.model_name, settings.monitoring)
        stream = self._survey()
        interval = settings.monitoring.check_interval
        self._check(stream, interval)
        checks = check_times(stream.times[0], stream.times[-1], interval)
        _warn_of_retention(checks, settings.database.retention_days)
        with _connected(store) as connection:
            wanted = {
                name: ~_recorded(connection, judge, name, checks, interval) for name in judge.limits
            }
        due = np.any(list(wanted.values()), axis=0)
        if not due.any():
            return 0
        wanted = {name: when[due] for name, when in wanted.items()}
        plan = Plan.of(stream.times, checks[due], wanted, judge.limits, fitted)
        stored = 0
        before = len(checks) - len(plan.whole)
        with tqdm(total=len(checks), initial=before, unit=" check times", disable=None) as bar:
            for done, rows in cluster.history(self.client, self.dataset, stream, plan, judge):
                with _connected(store) as connection:
                    history.fill(connection, rows)
                stored += len(rows)
                bar.update(done)
        return stored

    def _survey(self) -> Stream:
        with tqdm(total=len(self.dataset.files), unit=" files", disable=None) as bar:
            return cluster.survey(self.client, self.dataset, bar.update)

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
) -> tuple[Judge, Fitted]:
    version = baselines.newest(connection, model_name)
    detector = baseline.load(connection, model_name, version).detector
    limits = {
        name: Limits(window, capacity(window, detector.n_reference))
        for name, window in settings.windows
    }
    judge = Judge(model_name, version, detector, limits, settings.stale_after)
    return judge, Fitted(*baselines.times(connection, model_name, version))


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
