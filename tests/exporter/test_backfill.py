"""Backfill: the numbers of the exporter, from files, once each."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import dask
import fsspec
import numpy as np
import psycopg
import pyarrow as pa
import pytest
from click.testing import CliRunner
from distributed import Client, LocalCluster
from fsspec import AbstractFileSystem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyarrow import parquet

from exporter import baseline, cluster
from exporter.backfill import Backfill
from exporter.baseline import Baseline
from exporter.check import history_row
from exporter.cli import main
from exporter.dataset import Dataset
from exporter.model import Model
from exporter.plan import Fitted, Limits, Plan, check_times
from exporter.quality import assess
from exporter.score import Detector
from exporter.segments import Judge, Segment, measure_run
from ingest.runtime.errors import (
    ClusterFailed,
    DimensionMismatch,
    NotFound,
    PayloadError,
    StoreUnavailable,
)
from ingest.runtime.settings import (
    BaselineSettings,
    MonitoringSettings,
    Settings,
    WindowSettings,
    WindowsSettings,
)
from ingest.store import baselines, history
from ingest.store.history import HistoryRow
from ingest.store.pool import connect
from ingest.store.selection import Selection
from ingest.store.tail import ModelRow
from tests.service import wait_for

Vectors = NDArray[np.float32]
Floats = NDArray[np.float64]
Send = Callable[..., None]

START = 1_700_000_123.0
FITTED = 1_000
SETTINGS = Settings(
    monitoring=MonitoringSettings(
        baseline=BaselineSettings(vectors=FITTED),
        windows=WindowsSettings(
            fast=WindowSettings(seconds=900, min_vectors=20),
            slow=WindowSettings(seconds=7_000, min_vectors=20, max_vectors=180),
        ),
    )
)
MONITORING = SETTINGS.monitoring
NUMBERS = ("score", "magnitude", "cosine_similarity", "norm")


def made(count: int = 3_000) -> Floats:
    """Times of vectors: irregular, a burst of one time, and a night without any."""
    pauses = np.random.default_rng(1).exponential(25, 3_000)
    pauses[FITTED + 500 : FITTED + 900] = 0
    pauses[FITTED + 1_100] = 20_000
    # Microseconds, as files have them.
    return np.round(START + np.cumsum(pauses), 6)[:count]


@pytest.fixture(scope="module")
def stream(vectors: Vectors) -> tuple[Vectors, Floats]:
    """Vectors that drift at the end, with repeats, in the order of their times."""
    moved = vectors.copy()
    moved[2_500:] += np.float32(1)
    moved[1_800:1_850] = moved[1_700]
    return moved, made()


def table(vectors: Vectors, times: Floats, **columns: object) -> pa.Table:
    stamps = pa.array(np.rint(times * 1e6).astype(np.int64), pa.timestamp("us", "UTC"))
    lists = pa.array(list(vectors), pa.list_(pa.float32()))
    return pa.table({"embedding": lists, "timestamp": stamps, **columns})


def write(folder: Path, vectors: Vectors, times: Floats, files: int = 3) -> str:
    """Write files of several row groups, and what other programs leave beside them."""
    folder.mkdir(exist_ok=True)
    for number, rows in enumerate(np.array_split(np.arange(len(times)), files)):
        path = folder / "day=1" / f"{number:03}.parquet"
        path.parent.mkdir(exist_ok=True)
        parquet.write_table(table(vectors[rows], times[rows]), path, row_group_size=170)
    (folder / "_SUCCESS").touch()
    (folder / "_temporary.parquet").write_text("no Parquet")
    return str(folder)


@pytest.fixture
def lake(tmp_path: Path, stream: tuple[Vectors, Floats]) -> str:
    return write(tmp_path / "lake", *stream)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A cluster of two threads in this process."""
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0"
        ) as local,
        Client(local) as client,
    ):
        yield client


def backfill(client: Client, url: str) -> Backfill:
    return Backfill(client, Dataset.open(url, "m", "timestamp"))


def rows(connection: psycopg.Connection) -> dict[tuple[float, str], HistoryRow]:
    found = connection.execute(
        "select extract(epoch from computed_at)::float8, model_name, window_name, state, vectors,"
        " baseline_version, score, magnitude, cosine_similarity, norm, components"
        " from drift_history order by computed_at, window_name"
    ).fetchall()
    return {(row[0], row[2]): HistoryRow(*row[1:]) for row in found}


def live(
    detector: Detector, vectors: Vectors, times: Floats, checks: Floats
) -> dict[tuple[float, str], HistoryRow]:
    """What the exporter says at these times, its windows fed as the tail feeds them."""
    now = datetime.now(UTC)
    model = Model(ModelRow("m", vectors.shape[1], 0, None, None, 1, now), MONITORING)
    model.windows.append(vectors[:FITTED], times[:FITTED])
    model.seen_seq = FITTED
    pinned = Baseline(1, now, FITTED, "first", assess(vectors[:FITTED]), detector)
    model.adopt(pinned, times[FITTED - 1])
    said = {}
    for check in checks:
        seen = int(np.searchsorted(times, check, "right"))
        model.windows.append(vectors[model.seen_seq : seen], times[model.seen_seq : seen])
        model.seen_seq = seen
        received = datetime.fromtimestamp(times[seen - 1], UTC)
        model.row = ModelRow("m", vectors.shape[1], seen, received, None, 1, now)
        model.windows.advance(check)
        model.assess()
        for name in model.windows.windows:
            quality = model.quality.get(name)
            norm = None if quality is None else quality.norm
            said[check, name] = history_row("m", name, model.verdict(name, check), 1, norm)
    return said


def assert_same_numbers(
    found: dict[tuple[float, str], HistoryRow], expected: dict[tuple[float, str], HistoryRow]
) -> None:
    for key, row in expected.items():
        one, other = asdict(found[key]), asdict(row)
        for name in ("model_name", "window_name", "state", "vectors"):
            assert one[name] == other[name], (key, name)
        for name in NUMBERS:
            assert one[name] == pytest.approx(other[name], abs=1e-9), (key, name)
        assert one["components"] == pytest.approx(other["components"], abs=1e-9), key


def after_the_baseline(times: Floats) -> Floats:
    checks = check_times(times[0], times[-1], MONITORING.check_interval)
    return checks[checks >= times[FITTED - 1]]


@pytest.fixture
def expected(stream: tuple[Vectors, Floats]) -> dict[tuple[float, str], HistoryRow]:
    vectors, times = stream
    detector = Detector.fit(vectors[:FITTED], timestamps=times[:FITTED])
    return live(detector, vectors, times, after_the_baseline(times))


# The same numbers


def test_history_is_what_the_exporter_would_have_recorded(
    client: Client,
    lake: str,
    store: str,
    connection: psycopg.Connection,
    stream: tuple[Vectors, Floats],
    expected: dict[tuple[float, str], HistoryRow],
) -> None:
    filling = backfill(client, lake)
    assert filling.pin(store, Selection(first=FITTED)) == 1
    stored = filling.run(store, SETTINGS)
    found = rows(connection)
    checks = check_times(stream[1][0], stream[1][-1], MONITORING.check_interval)
    assert sorted(found) == [(check, name) for check in checks for name in ("fast", "slow")]
    assert stored == len(found)
    assert_same_numbers(found, expected)
    # What the test would be worth nothing without.
    assert {row.state for row in expected.values()} == {"ok", "stale", "too_few_vectors"}
    assert max(row.components["duplicates"] for row in expected.values() if row.components) > 1
    assert {
        name: max(row.vectors for (_, window), row in expected.items() if window == name)
        for name in ("fast", "slow")
    } == {"fast": 200, "slow": 180}
    assert {row.baseline_version for row in found.values()} == {1}


def test_files_in_any_order_give_the_same_history(
    client: Client,
    tmp_path: Path,
    store: str,
    connection: psycopg.Connection,
    stream: tuple[Vectors, Floats],
    expected: dict[tuple[float, str], HistoryRow],
) -> None:
    vectors, times = stream
    # Vectors of one time keep their order: that of the files decides.
    _, moment = np.unique(times, return_inverse=True)
    shuffled = np.random.default_rng(0).permutation(len(times))
    order = np.argsort(shuffled[moment], kind="stable")
    filling = backfill(client, write(tmp_path / "lake", vectors[order], times[order], files=7))
    filling.pin(store, Selection(first=FITTED))
    filling.run(store, SETTINGS)
    assert_same_numbers(rows(connection), expected)


def test_vectors_before_the_baseline_are_measured_and_its_own_are_not(
    client: Client,
    lake: str,
    store: str,
    connection: psycopg.Connection,
    stream: tuple[Vectors, Floats],
) -> None:
    vectors, times = stream
    start, end = (datetime.fromtimestamp(times[at], UTC) for at in (400, 400 + FITTED - 1))
    filling = backfill(client, lake)
    filling.pin(store, Selection(start=start, end=end))
    detector = baseline.load(connection, "m", 1).detector
    assert detector.n_reference == FITTED
    filling.run(store, SETTINGS)
    for (check, name), row in rows(connection).items():
        limits = getattr(MONITORING.windows, name)
        young = (times > check - limits.seconds) & (times <= check)
        if check >= times[400]:
            young &= times > times[400 + FITTED - 1]
        current = vectors[young][-min(limits.max_vectors, 200) :]
        assert row.vectors == len(current)
        if row.state == "ok":
            assert row.norm == pytest.approx(assess(current).norm, abs=1e-9)
            assert row.magnitude == pytest.approx(detector.magnitude(current), abs=1e-9)
    states = [row.state for (check, _), row in rows(connection).items() if check < times[400]]
    assert states.count("ok") > len(states) / 2


def test_the_baselines_own_are_in_no_window_however_fine_their_times(
    client: Client, tmp_path: Path, store: str, connection: psycopg.Connection, vectors: Vectors
) -> None:
    times = START + np.arange(300) * 60.0
    times[199] = np.nextafter(times[199], np.inf)
    times[200:] += 3_600
    path = tmp_path / "fine.parquet"
    columns = {"embedding": pa.array(list(vectors[:300])), "timestamp": pa.array(times)}
    parquet.write_table(pa.table(columns), path)
    filling = backfill(client, str(path))
    filling.pin(store, Selection(first=200))
    filling.run(store, SETTINGS)
    before = {row.vectors for (check, _), row in rows(connection).items() if check < times[200]}
    assert before == {0}
    assert max(row.vectors for row in rows(connection).values()) > 0


def test_a_clients_odd_timestamp_empties_no_window(
    client: Client,
    lake: str,
    store: str,
    connection: psycopg.Connection,
    send: Send,
    vectors: Vectors,
) -> None:
    send(vectors[:200], timestamps=[0.0] + [None] * 199)
    baseline.pin(connection, "m", Selection(first=200))
    backfill(client, lake).run(store, SETTINGS)
    states = [row.state for row in rows(connection).values()]
    assert states.count("ok") > len(states) / 2


def test_rows_of_other_models_are_left_out(
    client: Client, tmp_path: Path, store: str, connection: psycopg.Connection, vectors: Vectors
) -> None:
    times = made(1_200)
    names = np.where(np.arange(1_200) % 3 == 0, "other", "m")
    lists = pa.array([[1.0] if n == "other" else v for n, v in zip(names, vectors, strict=False)])
    path = tmp_path / "both.parquet"
    named = table(vectors[:1_200], times, model_name=pa.array(names).dictionary_encode())
    parquet.write_table(named.set_column(0, "embedding", lists), path, row_group_size=100)
    backfill(client, str(path)).pin(store, Selection(first=5_000))
    np.testing.assert_array_equal(
        baselines.vectors(connection, "m", 1, 8), vectors[:1_200][names == "m"]
    )


def test_folders_of_other_models_are_left_out(
    client: Client, tmp_path: Path, store: str, connection: psycopg.Connection, vectors: Vectors
) -> None:
    for name, here in (("other", vectors[:500] + 9), ("team%2Fm", vectors[:500])):
        write(tmp_path / f"model_name={name}", here, made(500))
    filling = Backfill(client, Dataset.open(str(tmp_path), "team/m", "timestamp"))
    filling.pin(store, Selection(first=500))
    np.testing.assert_array_equal(baselines.vectors(connection, "team/m", 1, 8), vectors[:500])
    with pytest.raises(PayloadError, match=r"has no folder model_name=\.\.\. of model m$"):
        Dataset.open(str(tmp_path), "m", "timestamp")


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.large_list(pa.float32()), 8])
@pytest.mark.parametrize("stamp", ["s", "ms", "us", "ns", "float", "int"])
def test_every_way_to_write_a_column_is_read(
    tmp_path: Path, vectors: Vectors, kind: pa.DataType | int, stamp: str
) -> None:
    lists = pa.list_(pa.float32(), kind) if isinstance(kind, int) else kind
    times = np.arange(1_700_000_000, 1_700_000_050, dtype=np.float64)
    column = {
        "float": pa.array(times),
        "int": pa.array(times.astype(np.int64)),
    }.get(stamp) or pa.array(times.astype(np.int64)).cast(pa.timestamp("s")).cast(
        pa.timestamp(stamp)
    )
    path = tmp_path / "one.parquet"
    columns = {"embedding": pa.array(list(vectors[:50]), lists), "made": column}
    parquet.write_table(pa.table(columns), path, row_group_size=20)
    dataset = Dataset.open(str(path), "m", "made")
    groups = dataset.times(dataset.files[0])
    np.testing.assert_array_equal(np.concatenate(groups), times)
    pieces = dataset.pieces(dataset.files[0], list(map(len, groups)))
    read = np.concatenate([part for piece in pieces for part in dataset.vectors(piece)])
    np.testing.assert_array_equal(read, vectors[:50])


def test_a_long_row_group_is_read_in_pieces(tmp_path: Path) -> None:
    count = 150_000
    numbers = np.arange(count, dtype=np.float32)[:, None]
    path = tmp_path / "long.parquet"
    parquet.write_table(table(numbers, np.arange(count) + START), path, row_group_size=count)
    dataset = Dataset.open(str(path), "m", "timestamp")
    pieces = dataset.pieces(dataset.files[0], [count])
    assert [len(piece) for piece in pieces] == [65_536, 65_536, 18_928]
    for piece in pieces:
        read = np.concatenate(list(dataset.vectors(piece)))
        np.testing.assert_array_equal(read[:, 0], np.arange(piece.first, piece.stop))


def test_any_file_system_of_fsspec_will_do(
    client: Client, store: str, connection: psycopg.Connection, stream: tuple[Vectors, Floats]
) -> None:
    written = io.BytesIO()
    parquet.write_table(table(*stream), written)
    fsspec.filesystem("memory").pipe("/lake/part.parquet", written.getvalue())
    backfill(client, "memory://lake").pin(store, Selection(first=FITTED))
    assert baselines.versions(connection, "m")[0]["source"] == "memory:///lake: first 1000"


class Signed(AbstractFileSystem):
    """Local files whose paths are URLs with credentials, as those of https are."""

    protocol = "signed"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def unstrip_protocol(self, name: str) -> str:
        return name

    def isfile(self, path: str) -> bool:
        return True

    def open(self, path: str, mode: str) -> object:
        local = Path(path.removeprefix("signed://me:pw@host").partition("?")[0])
        if not local.exists():
            raise FileNotFoundError(f"404, url={path!r}")
        return local.open(mode)


def test_credentials_are_neither_stored_nor_shown(
    client: Client,
    tmp_path: Path,
    store: str,
    connection: psycopg.Connection,
    stream: tuple[Vectors, Floats],
) -> None:
    fsspec.register_implementation("signed", Signed, clobber=True)
    path = tmp_path / "one.parquet"
    url = f"signed://me:pw@host{path}?sig=SECRET"
    parquet.write_table(table(*stream), path)
    filling = backfill(client, url)
    filling.pin(store, Selection(first=FITTED))
    assert baselines.versions(connection, "m")[0]["source"] == f"signed://host{path}: first 1000"
    path.unlink()
    with pytest.raises(PayloadError) as caught:
        filling.pin(store, Selection(first=FITTED))
    assert str(caught.value) == f"signed://host{path}: 404, url='signed://host{path}'"
    with pytest.raises(PayloadError, match=r"^nowhere://host/x cannot be read: Protocol"):
        Dataset.open("nowhere://me:pw@host/x?sig=SECRET", "m", "timestamp")


# Map and merge


@pytest.fixture(scope="module")
def judge(detector: Detector) -> Judge:
    return Judge(
        "m",
        1,
        detector,
        {
            "fast": Limits(WindowSettings(seconds=60, min_vectors=2), 40),
            "slow": Limits(WindowSettings(seconds=600, min_vectors=2), 150),
        },
        3_600,
    )


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10_000), cuts=st.lists(st.integers(0, 400), max_size=12))
def test_parts_in_any_order_make_the_whole(
    seed: int, cuts: list[int], vectors: Vectors, judge: Judge
) -> None:
    random = np.random.default_rng(seed)
    times = np.sort(random.integers(0, 2_000, 400)).astype(np.float64)
    # From a few, so that vectors come again.
    here = random.choice(vectors[1_000:1_150], 400)
    checks = check_times(times[0], times[-1], 50)
    wanted = dict.fromkeys(judge.limits, np.ones(len(checks), bool))
    plan = Plan.of(times, checks, wanted, judge.limits, Fitted(-2, -1))
    segments = plan.segments(400)
    parts = []
    for part in np.split(random.permutation(400), sorted(cuts)):
        numbers = np.unique(segments[part])
        chosen = [(int(n), here[part[segments[part] == n]]) for n in numbers[numbers >= 0]]
        parts.append(
            [
                Segment(n, judge.detector.pack(v), float(np.linalg.norm(v, axis=1).sum(dtype="f8")))
                for n, v in chosen
            ]
        )
    found = measure_run(plan.whole, parts, judge)
    assert len(found) == 2 * len(checks)
    for check, row in found:
        window, capacity = judge.limits[row.window_name]
        young = np.flatnonzero((times > check - window.seconds) & (times <= check))[-capacity:]
        assert row.vectors == len(young)
        if row.state == "ok":
            middle = (times[young[0]] + times[young[-1]]) / 2
            score, components = judge.detector.scores(here[young], middle)
            assert row.score == pytest.approx(score, abs=1e-9)
            assert row.components == pytest.approx(components, abs=1e-9)
            assert row.magnitude == pytest.approx(judge.detector.magnitude(here[young]), abs=1e-9)
            assert row.norm == pytest.approx(assess(here[young]).norm, abs=1e-9)


# Once each


def test_what_is_recorded_is_not_measured_again(
    client: Client, lake: str, store: str, connection: psycopg.Connection
) -> None:
    filling = backfill(client, lake)
    filling.pin(store, Selection(first=FITTED))
    whole = filling.run(store, SETTINGS)
    assert filling.run(store, SETTINGS) == 0
    before = rows(connection)
    checks = sorted({check for check, _ in before})
    # A gap of both windows, and one of a single window, which the exporter filled meanwhile.
    connection.execute(
        "delete from drift_history where computed_at between to_timestamp(%s) and to_timestamp(%s)",
        [checks[100], checks[109]],
    )
    connection.execute(
        "update drift_history set computed_at = computed_at - interval '7.5 s'"
        " where window_name = 'fast' and computed_at = to_timestamp(%s)",
        [checks[150]],
    )
    assert filling.run(store, SETTINGS) == 20
    after = rows(connection)
    assert len(after) == whole
    assert {key: after[key] for key in before if key in after} == {
        key: row for key, row in before.items() if key != (checks[150], "fast")
    }


def test_what_the_exporter_recorded_without_numbers_is_not_doubled(
    client: Client,
    lake: str,
    store: str,
    connection: psycopg.Connection,
    expected: dict[tuple[float, str], HistoryRow],
) -> None:
    filling = backfill(client, lake)
    filling.pin(store, Selection(first=FITTED))
    silent = {key: row for key, row in expected.items() if row.state != "ok"}
    history.fill(connection, [(check - 7.5, row) for (check, _), row in silent.items()])
    filling.run(store, SETTINGS)
    assert silent
    assert silent.keys().isdisjoint(rows(connection))


def test_history_against_another_baseline_is_replaced(
    client: Client, lake: str, store: str, connection: psycopg.Connection
) -> None:
    filling = backfill(client, lake)
    filling.pin(store, Selection(first=FITTED))
    whole = filling.run(store, SETTINGS)
    filling.pin(store, Selection(first=FITTED + 500))
    assert filling.run(store, SETTINGS) == whole
    found = rows(connection)
    assert len(found) == whole
    assert {row.baseline_version for row in found.values()} == {2}


def test_a_restart_does_the_rest_after_a_kill(
    client: Client, tmp_path: Path, store: str, connection: psycopg.Connection, vectors: Vectors
) -> None:
    times = START + np.arange(5_000) * 60.0
    lake = write(tmp_path / "lake", vectors[np.arange(5_000) % 1_300], times, files=4)
    config = tmp_path / "config.yaml"
    config.write_text(
        f"database: {{connection_string: {json.dumps(store)}}}\n"
        "monitoring: {check_interval: 120, baseline: {vectors: 1000},"
        " windows: {fast: {seconds: 3600}, slow: {seconds: 7200}}}\n"
    )
    command = [sys.executable, "-m", "exporter.cli", "backfill", lake, "--model", "m"]
    command += ["--config", str(config)]
    subprocess.run([*command, "--baseline"], check=True, timeout=120)

    def stored() -> dict[tuple[object, ...], int]:
        found = connection.execute(
            "select window_name, computed_at, xmin::text::int from drift_history"
        ).fetchall()
        return {row[:-1]: row[-1] for row in found}

    # A group of their own, for the whole of it to be killed as if the machine went down.
    with subprocess.Popen(command, start_new_session=True) as running:
        deadline = time.monotonic() + 120
        while not stored():
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.killpg(running.pid, signal.SIGKILL)
    before = stored()
    done = subprocess.run(command, check=True, timeout=120, capture_output=True, text=True)
    after = stored()
    assert 0 < len(before) < len(after) == 2 * len(check_times(times[0], times[-1], 120))
    assert done.stdout == f"m: {len(after) - len(before)} rows of history added\n"
    assert after == after | before
    # Processes of their own give the numbers of one.
    connection.execute("create table was as table drift_history")
    connection.execute("delete from drift_history")
    monitoring = MonitoringSettings(
        check_interval=120,
        windows=WindowsSettings(
            fast=WindowSettings(seconds=3_600), slow=WindowSettings(seconds=7_200)
        ),
    )
    backfill(client, lake).run(store, Settings(monitoring=monitoring))
    assert rows(connection) != {}
    for one, other in (("drift_history", "was"), ("was", "drift_history")):
        changed = connection.execute(f"select * from {one} except select * from {other}".encode())
        assert changed.fetchall() == []
    repeats = [row.components["duplicates"] for row in rows(connection).values() if row.components]
    assert len(repeats) > len(after) / 2


# Baselines


def test_a_baseline_from_files_can_be_searched_and_measured_against(
    client: Client,
    lake: str,
    store: str,
    connection: psycopg.Connection,
    stream: tuple[Vectors, Floats],
) -> None:
    vectors, times = stream
    backfill(client, lake).pin(store, Selection(first=FITTED))
    pinned = baseline.load(connection, "m", 1)
    assert pinned.last_seq == 0
    assert pinned.detector.to_bytes() == (
        Detector.fit(vectors[:FITTED], timestamps=times[:FITTED]).to_bytes()
    )
    assert pinned.quality == assess(vectors[:FITTED])
    np.testing.assert_array_equal(baselines.vectors(connection, "m", 1, 8), vectors[:FITTED])
    assert baselines.times(connection, "m", 1) == (times[0], times[FITTED - 1])
    [(indexes,)] = connection.execute(
        "select count(*) from pg_indexes where tablename = 'baseline_embedding'"
        " and indexdef like '%hnsw%'"
    ).fetchall()
    assert indexes == 1


@pytest.mark.parametrize(("age", "last_seq"), [(3_600, 0), (-3_600, 30)])
def test_only_what_the_store_received_later_is_newer_than_a_baseline_from_files(
    client: Client,
    tmp_path: Path,
    store: str,
    connection: psycopg.Connection,
    send: Send,
    vectors: Vectors,
    age: float,
    last_seq: int,
) -> None:
    send(vectors[:30])
    lake = write(tmp_path / "lake", vectors[:500], time.time() - age + np.arange(-500.0, 0.0))
    backfill(client, lake).pin(store, Selection(first=500))
    assert baseline.load(connection, "m", 1).last_seq == last_seq


def test_a_baseline_of_very_many_vectors_is_thinned_evenly(
    client: Client, tmp_path: Path, store: str, connection: psycopg.Connection
) -> None:
    count = 120_000
    numbers = np.random.default_rng(0).normal(size=(count, 1)).astype(np.float32)
    path = tmp_path / "long.parquet"
    parquet.write_table(table(numbers, START + np.arange(count)), path)
    backfill(client, str(path)).pin(store, Selection(start=datetime(2000, 1, 1, tzinfo=UTC)))
    np.testing.assert_array_equal(baselines.vectors(connection, "m", 1, 1), numbers[2::3])


def test_a_models_writers_do_not_wait_for_a_baseline_to_come_in(
    client: Client,
    lake: str,
    store: str,
    connection: psycopg.Connection,
    send: Send,
    vectors: Vectors,
) -> None:
    def waits() -> bool:
        locks = "select from pg_locks where locktype = 'advisory' and not granted"
        return connection.execute(locks).fetchone() is not None

    with ThreadPoolExecutor(1) as pool, connect(store) as other:
        with other.transaction():
            baselines._next_version(other, "m")
            pinning = pool.submit(backfill(client, lake).pin, store, Selection(first=FITTED))
            wait_for(waits, "the lock")
            send(vectors[:10])
        assert pinning.result() == 1


# What cannot be done


def test_another_dimension_than_the_models_is_refused(
    client: Client, lake: str, store: str, send: Send
) -> None:
    send(np.ones((1, 5), np.float32))
    with pytest.raises(DimensionMismatch, match="dimension 5; these have 8"):
        backfill(client, lake).pin(store, Selection(first=FITTED))


def test_another_dimension_is_refused_before_all_files_are_read(
    client: Client, lake: str, store: str, send: Send
) -> None:
    send(np.ones((1, 5), np.float32))
    (Path(lake) / "last.parquet").write_text("no Parquet")
    with pytest.raises(DimensionMismatch, match="dimension 5; these have 8"):
        backfill(client, lake).pin(store, Selection(first=FITTED))


def test_a_store_that_fails_meanwhile_is_an_error(
    client: Client, lake: str, store: str, connection: psycopg.Connection
) -> None:
    filling = backfill(client, lake)
    filling.pin(store, Selection(first=FITTED))
    connection.execute("alter table drift_history rename to gone")
    with pytest.raises(StoreUnavailable):
        filling.run(store, SETTINGS)
    connection.execute("alter table baseline rename to gone_too")
    for work in (
        lambda: filling.run(store, SETTINGS),
        lambda: filling.pin(store, Selection(first=FITTED)),
    ):
        with pytest.raises(StoreUnavailable):
            work()


def test_history_needs_a_baseline(client: Client, lake: str, store: str, send: Send) -> None:
    with pytest.raises(NotFound, match="no model 'm'"):
        backfill(client, lake).run(store, SETTINGS)
    send(np.ones((1, 8), np.float32))
    with pytest.raises(NotFound, match="model m has no baseline yet; pin one first"):
        backfill(client, lake).run(store, SETTINGS)


def test_too_few_vectors_make_no_baseline(client: Client, lake: str, store: str) -> None:
    with pytest.raises(PayloadError, match=r"lake has 99 vectors of model m \(first 99\)"):
        backfill(client, lake).pin(store, Selection(first=99))


GOOD = table(np.ones((200, 2), np.float32), START + np.arange(200))
VECTORS: list[object] = [[1.0, 2.0]] * 199
TIMES: list[object] = [START] * 199


def spoiled(name: str, column: Sequence[object]) -> pa.Table:
    return GOOD.set_column(GOOD.schema.get_field_index(name), name, pa.array(column))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (GOOD.drop_columns("timestamp"), "has no column 'timestamp'; it"),
        (GOOD.drop_columns("embedding"), "has no column 'embedding'; it"),
        (spoiled("embedding", [*VECTORS, [1.0]]), "row 199: .*'embedding'.*1 components; 2 are"),
        (spoiled("embedding", [[], *VECTORS]), "row 0: .*'embedding'.*0 components; at least 1"),
        (spoiled("embedding", [*VECTORS, None]), "row 199: column 'embedding' holds no vector"),
        (spoiled("embedding", [*VECTORS, [0.0, None]]), "row 199: .* component 1 is missing"),
        (spoiled("embedding", [*VECTORS, [float("nan"), 1.0]]), "row 199: .* component 0 is"),
        (spoiled("embedding", [*VECTORS, [0.0, 1e300]]), "row 199: .* component 1 .*float32"),
        (
            spoiled("embedding", ["text"] * 200),
            "column 'embedding' is of type string; allowed",
        ),
        (
            spoiled("embedding", [["text"]] * 200),
            "column 'embedding' is of type list.*; allowed",
        ),
        (
            spoiled("timestamp", ["today"] * 200),
            "column 'timestamp' is of type string; allowed",
        ),
        (spoiled("timestamp", [*TIMES, None]), "row 199: column 'timestamp' holds nothing"),
        (spoiled("timestamp", [*TIMES, float("nan")]), "row 199: .*'timestamp' holds nothing"),
        (spoiled("timestamp", [*TIMES, 1.7e12]), "row 199: .*'timestamp' holds 1700000000000;"),
    ],
)
def test_bad_rows_are_named_with_file_and_column(
    client: Client, tmp_path: Path, store: str, bad: pa.Table, message: str
) -> None:
    parquet.write_table(bad, tmp_path / "bad.parquet", row_group_size=70)
    with pytest.raises(PayloadError, match=rf"^file://.*/bad\.parquet: {message}"):
        backfill(client, str(tmp_path)).pin(store, Selection(first=200))


def test_files_of_different_dimensions_make_no_baseline(
    client: Client, tmp_path: Path, store: str
) -> None:
    for number, dimension in enumerate((3, 4)):
        times = START + 100 * number + np.arange(100)
        vectors = np.ones((100, dimension), np.float32)
        parquet.write_table(table(vectors, times), tmp_path / f"{number}.parquet")
    with pytest.raises(PayloadError, match=r"1\.parquet: has vectors of 4 components, files befo"):
        backfill(client, str(tmp_path)).pin(store, Selection(first=200))


def test_vectors_of_another_dimension_than_the_baselines_are_refused(
    client: Client, lake: str, tmp_path: Path, store: str
) -> None:
    backfill(client, lake).pin(store, Selection(first=FITTED))
    other = write(tmp_path / "other", np.ones((300, 3), np.float32), made()[2_000:2_300])
    with pytest.raises(PayloadError, match=r"000\.parquet: row 0: .* 3 components; 8 are needed"):
        backfill(client, other).run(store, SETTINGS)


def test_a_place_without_vectors_is_an_error(client: Client, lake: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for url in (str(tmp_path / "empty"), str(tmp_path / "absent")):
        with pytest.raises(PayloadError, match=r"has no files that end in \.parquet"):
            Dataset.open(url, "m", "timestamp")
    with pytest.raises(PayloadError, match="nowhere://x cannot be read: Protocol not known"):
        Dataset.open("nowhere://x", "m", "timestamp")
    path = tmp_path / "others.parquet"
    others = table(np.ones((9, 2), np.float32), made(9), model_name=pa.array(["other"] * 9))
    parquet.write_table(others, path)
    with pytest.raises(PayloadError, match=r"others\.parquet has no vectors of model m"):
        cluster.survey(client, Dataset.open(str(path), "m", "timestamp"), id)


def test_a_file_that_is_no_parquet_is_named(client: Client, tmp_path: Path, store: str) -> None:
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(PayloadError, match=r"^file://.*text\.parquet: Parquet"):
        backfill(client, str(tmp_path)).pin(store, Selection(first=200))


def test_a_time_that_is_off_by_decades_is_named_with_its_file(
    client: Client, lake: str, tmp_path: Path, store: str
) -> None:
    backfill(client, lake).pin(store, Selection(first=FITTED))
    early = write(tmp_path / "early", np.ones((2, 8), np.float32), np.array([0.0, START]), files=2)
    message = r"1970-01-01 00:00:00 UTC \(in file:.*000\.parquet\).* check times .*'timestamp'"
    with pytest.raises(PayloadError, match=message):
        backfill(client, early).run(store, SETTINGS)


def test_a_time_that_is_off_by_centuries_takes_no_memory(
    client: Client, lake: str, tmp_path: Path, store: str
) -> None:
    backfill(client, lake).pin(store, Selection(first=FITTED))
    times = np.array([START - 86_400 * 36_500, START])
    early = write(tmp_path / "early", np.ones((2, 8), np.float32), times)
    tracemalloc.start()
    try:
        with pytest.raises(PayloadError, match="check times"):
            backfill(client, early).run(store, SETTINGS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A time for each check would be 80 MB.
    assert peak < 40_000_000


def test_a_cluster_that_is_away_is_an_error() -> None:
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(ClusterFailed, match=r"no scheduler answers at tcp://127\.0\.0\.1:1: "),
        cluster.connected("tcp://127.0.0.1:1"),
    ):
        pass


def test_a_scheduler_of_ones_own_does_the_work_until_its_workers_die(
    lake: str, store: str, connection: psycopg.Connection
) -> None:
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as local,
        Backfill.open(lake, "m", "timestamp", local.scheduler_address) as filling,
    ):
        filling.pin(store, Selection(first=FITTED))
        assert filling.run(store, SETTINGS) == len(rows(connection)) > 0
        dying = Dataset(Dying(), lake, ("any",), "m", "timestamp")
        with pytest.raises(ClusterFailed, match=r"the Dask cluster lost work: .*times"):
            cluster.survey(filling.client, dying, id)


def test_a_scheduler_that_goes_away_is_an_error(
    lake: str, store: str, connection: psycopg.Connection
) -> None:
    patience = {"distributed.comm.timeouts.connect": "1s"}
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


def test_workers_started_here_are_closed_to_whoever_has_no_certificate() -> None:
    with cluster.started(1) as client:
        address = str(client.scheduler.address)
        assert client.submit(abs, -1).result() == 1
        plain = address.replace("tls:", "tcp:")
        with pytest.raises(OSError, match=r"Timed out|Connection"), Client(plain, timeout="2s"):
            pass


class Dying:
    """A file system that takes the process down that reads from it."""

    def open(self, *_: object) -> None:
        os._exit(1)


# The command


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["backfill", *arguments])
    return result.exit_code, result.output


def test_the_command_names_what_it_cannot_do(lake: str) -> None:
    assert invoke(lake, "--model", "a b")[0] == 2
    code, output = invoke(lake, "--model", "m", "--from", "2026-01-01")
    assert (code, output) == (2, "Error: --from and --to choose the vectors of a --baseline\n")


def test_the_command_makes_the_schema_of_a_fresh_store(
    lake: str, empty_database: str, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"database: {{connection_string: {json.dumps(empty_database)}}}\n")
    code, output = invoke(lake, "--model", "m", "--baseline", "--config", str(config))
    assert (code, output.splitlines()[-1]) == (0, "m: baseline 1 pinned (first 5000)")


@pytest.mark.parametrize("module", ["distributed", "fsspec", "pyarrow"])
def test_without_the_extra_the_command_says_what_to_install(
    module: str, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ours in ("backfill", "cluster", "dataset", "segments"):
        monkeypatch.delitem(sys.modules, f"exporter.{ours}")
    monkeypatch.setitem(sys.modules, module, None)
    assert invoke(lake, "--model", "m") == (
        1,
        f"Error: needs {module}: pip install 'embedding-drift-exporter[scale]'\n",
    )
