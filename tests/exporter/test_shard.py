"""Shards: which one an exporter is, and that together they are the whole."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, generate_latest
from psycopg_pool import ConnectionPool

from exporter.collector import DriftCollector
from exporter.model import Models
from exporter.shard import shard
from exporter.tail import Tail
from ingest.runtime.errors import SettingsError
from ingest.runtime.settings import MonitoringSettings
from ingest.store.tail import WHOLE, Shard

Vectors = NDArray[np.float32]


def test_a_single_exporter_is_the_whole_wherever_it_runs() -> None:
    assert shard(MonitoringSettings(), "host-7") == WHOLE


def test_the_setting_says_which_one_it_is() -> None:
    settings = MonitoringSettings(total_shards=4, shard=2)
    assert shard(settings, "exporter-1") == Shard(2, 4)


@pytest.mark.parametrize("host", ["exporter-3", "exporter-3.exporter.monitoring.svc"])
def test_else_the_ordinal_of_the_pod_does(host: str) -> None:
    assert shard(MonitoringSettings(total_shards=4), host) == Shard(3, 4)


@pytest.mark.parametrize(
    ("host", "reason"), [("laptop", "neither monitoring.shard"), ("exporter-4", "allows 0 to 3")]
)
def test_a_host_that_is_no_shard_is_an_error(host: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        shard(MonitoringSettings(total_shards=4), host)


def _samples(pool: ConnectionPool, own: Shard) -> set[str]:
    models = Models()
    tail = Tail(pool, models, MonitoringSettings(), own)
    tail.poll()
    registry = CollectorRegistry()
    registry.register(DriftCollector(models, lambda: tail.status, own))
    page = generate_latest(registry).decode().splitlines()
    return {line for line in page if "model_name=" in line}


def test_shards_together_show_what_one_exporter_shows_and_nothing_twice(
    pool: ConnectionPool, send: Callable[..., None], vectors: Vectors
) -> None:
    for number in range(12):
        send(vectors[:60], f"model-{number}")
    parts = [_samples(pool, Shard(ordinal, 3)) for ordinal in range(3)]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert set.union(*parts) == _samples(pool, WHOLE)
