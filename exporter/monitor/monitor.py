"""The monitor: follows the store, examines the models, and gives snapshots of everything."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Collection

from exporter.monitor import privacy
from exporter.monitor.examinations import (
    ExactExamination,
    Examination,
    ForecastExamination,
    MagnitudeExamination,
    QualityExamination,
    RiseExamination,
    SlicesExamination,
)
from exporter.monitor.examiner import Examiner
from exporter.monitor.explainer import Explainer
from exporter.monitor.model import Model, Models
from exporter.monitor.shard import shard
from exporter.monitor.snapshot import Snapshot
from exporter.monitor.tail import Tail
from ingest.runtime.settings.settings import Settings, Texts
from ingest.store.connection import ConnectionString
from ingest.store.pool import Pool, sync_pool
from ingest.store.shard import Shard


class Monitor:
    """Follows the models of one shard.

    Parameters
    ----------
    connection_string : ConnectionString
        Of a store that is migrated. Where the settings name a replica, it is read from.
    settings : Settings

    Raises
    ------
    SettingsError
        If there are several shards and none says which one this is.

    Attributes
    ----------
    models : Models
    shard : Shard
    pool : Pool
        Connections to read from.
    """

    def __init__(self, connection_string: ConnectionString, settings: Settings) -> None:
        self.shard: Shard = shard(settings.monitoring, socket.gethostname())
        self.models = Models()
        size, replica = settings.database.pool_size, settings.database.replica_connection_string
        self._primary = sync_pool(connection_string, size)
        self.pool = self._primary if replica is None else sync_pool(replica.get_secret_value, size)
        self._tail = Tail(
            self.pool, self.models, settings.monitoring, self.shard, primary=self._primary
        )
        self._examiner = Examiner(
            self.models,
            examinations(self.pool),
            self._primary,
            settings.monitoring.check_interval,
            self._tail.followed,
        )
        self._explainer = Explainer(
            self.models,
            self.pool,
            self._primary,
            settings.monitoring.check_interval,
            settings.explanation,
            self._tail.followed,
        )

    def start(self) -> None:
        """Connect, and start to follow the store."""
        self._primary.open()
        self.pool.open()
        self._tail.start()
        self._examiner.start()
        self._explainer.start()

    def stop(self) -> None:
        """Stop following, and close the connections."""
        self._explainer.stop(self._cut)
        self._examiner.stop(self._cut)
        self._tail.stop()
        self.pool.close()
        self._primary.close()

    def _cut(self) -> None:
        self.pool.cut()
        self._primary.cut()

    def reconfigure(self, settings: Settings) -> None:
        """Apply other settings at once."""
        self._tail.reconfigure(settings.monitoring)
        self._examiner.reconfigure(settings.monitoring.check_interval)
        self._explainer.reconfigure(settings.monitoring.check_interval, settings.explanation)

    @property
    def has_followed(self) -> bool:
        """Whether the windows have been read from the store."""
        return self._tail.status.timestamp is not None

    def snapshot(self, deadline: float = math.inf) -> Snapshot:
        """Judge every model.

        Parameters
        ----------
        deadline : float
            By ``time.monotonic``; after it, the last measurement of a window is used.
        """
        start = time.perf_counter()
        known = self.models.by_name  # read once: the tail replaces it
        models = tuple(self.models.snapshots(deadline, known))
        self._examiner.notice(models)
        self._explainer.notice(models)
        return Snapshot(
            models,
            self._tail.status,
            self._examiner.status,
            self._examiner.interval,
            {**self._examiner.examined, **self._explainer.examined},
            self.shard,
            time.perf_counter() - start,
            len(known) - len(models),
            self._explainer.settings.in_alerts,
            self._examiner.standbys,
        )

    def model(self, name: str) -> Model | None:
        """Return a model by name, if it is followed here."""
        return self.models.by_name.get(name)

    def permits(self, texts: Texts, keys: Collection[str] | None) -> bool:
        """Return whether an explanation of such settings says no more than is allowed now."""
        return privacy.permits(self._explainer.settings, texts, keys)


def examinations(pool: Pool) -> tuple[Examination, ...]:
    """Make all examinations, which read from this pool, in the order in which they run."""
    return (
        QualityExamination(),
        MagnitudeExamination(),
        ExactExamination(pool),
        ForecastExamination(pool),
        RiseExamination(pool),
        SlicesExamination(pool),
    )
