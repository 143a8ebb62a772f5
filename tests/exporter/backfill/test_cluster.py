"""The cluster does the work, or a failure is reported."""

from __future__ import annotations

import io
import json
import logging
import os
import time
from pathlib import Path

import dask
import numpy as np
import psycopg
import pyarrow as pa
import pytest
from distributed import Client, LocalCluster
from pyarrow import parquet

from exporter.backfill import cluster
from exporter.backfill.backfill import Backfill
from exporter.backfill.dataset import Dataset
from ingest.files.source import Source
from ingest.runtime.errors import ClusterFailed, PayloadError
from ingest.store.selection import Selection
from tests.exporter.backfill.lake import (
    FITTED,
    SETTINGS,
    START,
    Floats,
    Vectors,
    backfill,
    jumbled,
    made,
    rows,
    table,
    write,
)


class Dying:
    """A file system that ends the process that reads from it."""

    def unstrip_protocol(self, path: str) -> str:
        return path

    def open(self, *_: object) -> None:
        os._exit(1)


began: list[str] = []
ended: list[str] = []


class Slow:
    """A file system on which a file takes a while to be opened, and is then missing."""

    def unstrip_protocol(self, path: str) -> str:
        return path

    def open(self, path: str, _: str) -> io.BytesIO:
        began.append(path)
        if path == "good":
            return io.BytesIO(json.dumps({"embedding": [1.0], "timestamp": START}).encode())
        time.sleep(0.0 if path == "bad" else 1.0)
        ended.append(path)
        raise FileNotFoundError(path)


def interrupt(_: int) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("first", ["bad", "good"])
def test_nothing_runs_any_more_after_an_error_or_an_interruption(
    client: Client, first: str
) -> None:
    began.clear()
    ended.clear()
    late = tuple(f"late{number}" for number in range(9))
    dataset = Dataset(Source(Slow(), "slow", (first, *late)), "m")
    with pytest.raises((PayloadError, KeyboardInterrupt)):
        cluster.survey(client, dataset, interrupt)
    seen = set(began)
    assert seen - {"good"} == set(ended)
    assert not seen.issuperset(late)
    time.sleep(0.5)
    assert set(began) == seen


def test_files_of_different_dimensions_cannot_be_a_baseline(
    client: Client, tmp_path: Path, store: str
) -> None:
    for number, dimension in enumerate((3, 4)):
        times = START + 100 * number + np.arange(100.0)
        vectors = np.ones((100, dimension), np.float32)
        parquet.write_table(table(vectors, times), tmp_path / f"{number}.parquet")
    with pytest.raises(PayloadError, match=r"1\.parquet: has vectors of 4 components, files befo"):
        backfill(client, str(tmp_path)).pin(store, Selection(first=200))


def test_vectors_of_another_dimension_than_the_baselines_are_refused(
    client: Client, lake: str, tmp_path: Path, store: str
) -> None:
    backfill(client, lake).pin(store, Selection(first=FITTED))
    # One file: with several, any could be the first to fail.
    rows_of_three = np.ones((150, 3), np.float32)
    other = write(tmp_path / "other", rows_of_three, made()[2_000:2_150], files=1)
    with pytest.raises(PayloadError, match=r"000\.parquet: row 0 has .* 3 components, .* 8"):
        backfill(client, other).run(store, SETTINGS)


@pytest.mark.parametrize(
    ("once", "kept"), [(False, [0, 1, 2, 4, 5, 6]), (True, [0, 1, 2, 4])], ids=["revise", "once"]
)
def test_vectors_that_come_again_are_left_out_as_in_the_service(
    client: Client, tmp_path: Path, once: bool, kept: list[int]
) -> None:
    ids = ["a", "b", None, "a", None, "a", "a", "b"]
    numbers = np.array([[1, 9], [2, 9], [3, 9], [1, 9], [3, 9], [4, 9], [1, 9], [2, 9]], np.float32)
    times = START + np.arange(8.0)
    # In the order of time across files, not in that of the files.
    for file, chosen in enumerate(([7, 2, 3, 0], [6, 5, 1, 4])):
        column = pa.array([ids[row] for row in chosen])
        parquet.write_table(
            table(numbers[chosen], times[chosen], id=column), tmp_path / f"{file}.pq"
        )
    dataset = Dataset.open(str(tmp_path), "m", once=once)
    stream = cluster.survey(client, dataset, id)
    np.testing.assert_array_equal(stream.times, times[kept])
    read = cluster.fetch(client, dataset, stream, np.arange(len(kept)))
    np.testing.assert_array_equal(read, numbers[kept])


def test_an_unreachable_scheduler_is_an_error() -> None:
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(ClusterFailed, match=r"no scheduler answers at tcp://127\.0\.0\.1:1: "),
        cluster.connected("tcp://127.0.0.1:1"),
    ):
        pass


def test_an_existing_cluster_does_the_work_until_its_workers_die(
    lake: str,
    store: str,
    connection: psycopg.Connection,
    stream: tuple[Vectors, Floats],
    tmp_path: Path,
) -> None:
    vectors, times = stream
    order = jumbled(times)
    mess = write(tmp_path / "mess", vectors[order], times[order])
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as local,
        Backfill.open(Dataset.open(lake, "m"), local.scheduler_address) as filling,
    ):
        filling.pin(store, Selection(first=FITTED))
        assert filling.run(store, SETTINGS) == len(rows(connection)) > 0
        found = rows(connection)
        connection.execute("delete from drift_history")
        backfill(filling.client, mess, tmp_path / "scratch").run(store, SETTINGS)
        assert rows(connection) == found
        dying = Dataset(Source(Dying(), lake, ("any",)), "m")
        with pytest.raises(ClusterFailed, match=r"the Dask cluster lost work: .*survey"):
            cluster.survey(filling.client, dying, id)


def test_a_scheduler_that_ends_during_the_work_is_an_error(
    lake: str, store: str, connection: psycopg.Connection
) -> None:
    patience = {"distributed.comm.timeouts.connect": "5s"}
    with (
        dask.config.set(patience),
        LocalCluster(
            n_workers=1, processes=False, protocol="tcp", dashboard_address="127.0.0.1:0"
        ) as local,
        Client(local.scheduler_address) as client,
    ):
        filling = backfill(client, lake)
        filling.pin(store, Selection(first=FITTED))
        local.close()
        with pytest.raises(ClusterFailed, match="the Dask cluster lost work: "):
            filling.run(store, SETTINGS)
        client.close()
        with pytest.raises(ClusterFailed, match="the Dask cluster lost work: "):
            filling.run(store, SETTINGS)


def test_workers_that_do_not_start_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        dask.config.set({"temporary-directory": str(tmp_path / "file")}),
        pytest.raises(ClusterFailed, match="workers do not start on this machine: "),
        cluster.connected(None),
    ):
        pass


def test_workers_started_here_refuse_connections_without_a_certificate() -> None:
    with cluster.started(1) as client:
        assert client.scheduler is not None
        address = str(client.scheduler.address)
        assert client.submit(abs, -1).result() == 1
        plain = address.replace("tls:", "tcp:")
        with pytest.raises(OSError, match=r"Timed out|Connection"), Client(plain, timeout="2s"):
            pass
