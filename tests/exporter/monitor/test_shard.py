"""Shards: which one an exporter is, and that together they are the whole."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, generate_latest

from exporter.metrics import families
from exporter.metrics.collector import DriftCollector
from exporter.metrics.families import FAMILIES
from exporter.monitor.examiner import Examiner
from exporter.monitor.model import Models
from exporter.monitor.monitor import examinations
from exporter.monitor.shard import shard
from exporter.monitor.snapshot import Snapshot
from exporter.monitor.tail import Tail
from ingest.runtime.errors import SettingsError
from ingest.runtime.settings.settings import (
    BaselineSettings,
    MonitoringSettings,
    WindowSettings,
    WindowsSettings,
)
from ingest.store.pool import Pool
from ingest.store.shard import WHOLE, Shard
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
    ("host", "reason"), [("laptop", "set monitoring.shard"), ("exporter-4", "allows 0 to 3")]
)
def test_a_host_that_is_no_shard_is_an_error(host: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        shard(MonitoringSettings(total_shards=4), host)


SETTINGS = MonitoringSettings(
    baseline=BaselineSettings(vectors=250),
    windows=WindowsSettings(fast=WindowSettings(seconds=900, max_vectors=50)),
)


def _samples(pool: Pool, connection: psycopg.Connection, own: Shard) -> set[str]:
    """What one exporter shows of models once they are fitted, followed and checked."""
    models = Models()
    tail = Tail(pool, models, SETTINGS, own)

    def are_planned() -> bool:
        tail.poll()
        return all(model.maturing is not None for model in models.by_name.values())

    wait_for(are_planned, "what comes after the baselines")
    Examiner(models, examinations(pool), pool, 300, threading.Event()).check()
    # Or it would be part of the next one's history.
    connection.execute("delete from drift_history where score is not null")
    registry = CollectorRegistry()
    registry.register(DriftCollector(lambda deadline: Snapshot(tuple(models.snapshots(deadline)))))
    page = generate_latest(registry).decode().splitlines()
    tail.stop()
    # Each exporter polls at times of its own.
    return {
        re.sub(r"(_followed_timestamp_seconds\{.*\}) .*", r"\1", line)
        for line in page
        if "model_name=" in line
    }


def test_shards_together_show_what_one_exporter_shows_and_nothing_twice(
    pool: Pool, send: Callable[..., None], vectors: Vectors, connection: psycopg.Connection
) -> None:
    names = [f"model-{number}" for number in range(6)]
    for drift, name in enumerate(names):
        send(vectors[:250], name)
        send(vectors[250:310] + np.float32(drift), name)
        connection.execute(
            "insert into drift_history (model_name, window_name, computed_at, state, vectors,"
            " baseline_version, cosine_similarity) select %s, 'fast', at, 'ok', 50, 1,"
            " 0.5 + 0.1 * sin(extract(epoch from at) / 86400)"
            " from generate_series(now() - interval '8 d 1 m', now() - interval '1 m', '1 h') at",
            (name,),
        )
    parts = [_samples(pool, connection, Shard(ordinal, 3)) for ordinal in range(3)]
    assert all(parts)
    whole = _samples(pool, connection, WHOLE)
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert set.union(*parts) == whole
    shown = {line.split("{")[0] for line in whole}
    of_models = {family.name for family in FAMILIES if "model_name" in family.labels}
    absent = {
        families.COSINE_SIMILARITY_CHANGE_TIMESTAMP.name,
        families.MISMATCH_TIMESTAMP.name,
        families.NOT_FOLLOWED.name,
        families.REVISION_COSINE.name,
        families.SCORE_RISE.name,
        families.CANARY_DISTANCE.name,
        families.CANARY_TIMESTAMP.name,
        families.CANARY_GAP.name,
        families.CAUSE.name,
        families.EXPLANATION_INFO.name,
        families.EXPLANATION_TIMESTAMP.name,
        families.GROUP_RATIO.name,
        families.SLICE_RATIO.name,
        families.SLICE_BASELINE_RATIO.name,
        families.SLICES_FOLDED.name,
    }
    assert of_models - shown <= absent
