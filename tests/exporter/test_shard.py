"""Shards: which one an exporter is, and that together they are the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, generate_latest
from psycopg_pool import ConnectionPool
from starlette.testclient import TestClient

from exporter.app import Exporter
from exporter.collector import DriftCollector
from exporter.model import Models
from exporter.shard import shard
from exporter.tail import Tail
from ingest.runtime import web
from ingest.runtime.configuration import load
from ingest.runtime.errors import SettingsError
from ingest.runtime.live import Live
from ingest.runtime.settings import MonitoringSettings
from ingest.store.tail import WHOLE, Shard
from tests.service import wait_for

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


@contextmanager
def _client(store: str, ordinal: int) -> Iterator[TestClient]:
    settings = load(flags={"monitoring.total_shards": 2, "monitoring.shard": ordinal})
    registry = CollectorRegistry()
    app = web.application(registry, Live(load), Exporter(store, settings, registry))
    with TestClient(app) as client:
        wait_for(lambda: client.get("/-/ready").status_code == 200, "the first poll")
        yield client


def test_a_shard_that_has_not_the_model_says_which_one_has(
    store: str, send: Callable[..., None], vectors: Vectors
) -> None:
    names = [f"model-{number}" for number in range(6)]
    for name in names:
        send(vectors[:60], name)
    with _client(store, 0) as zero, _client(store, 1) as one:
        answers = [(zero.get(f"/drift/{name}"), one.get(f"/drift/{name}")) for name in names]
        unknown = [one.get(f"/drift/{name}") for name in ("none", "%00")]
    codes = [(a.status_code, b.status_code) for a, b in answers]
    assert set(codes) == {(200, 404), (404, 200)}
    for name, (first, second) in zip(names, answers, strict=True):
        has, has_not = (0, second) if first.is_success else (1, first)
        expected = f"model {name!r} is on shard {has}; this is shard {1 - has}"
        assert has_not.json()["detail"] == expected
    for answer in unknown:
        assert answer.status_code == 404
        assert "GET /drift lists those there are" in answer.json()["detail"]


def test_a_shard_that_cannot_ask_says_what_it_knows(
    store: str, connection: psycopg.Connection
) -> None:
    with _client(store, 1) as client:
        connection.execute("alter table model rename to gone")
        answer = client.get("/drift/m")
    assert answer.status_code == 404
    assert "on shard 1; the store cannot be asked" in answer.json()["detail"]


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
