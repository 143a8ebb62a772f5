"""Backfill: the numbers of the exporter, from files, once each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from click.testing import CliRunner
from distributed import Client
from pyarrow import parquet

from exporter.backfill import cluster
from exporter.backfill.plan import check_times
from exporter.backfill.replay import Judge, Row
from exporter.cli import main
from exporter.detector.detector import Detector
from exporter.monitor import baseline
from exporter.monitor.baseline import Baseline
from exporter.monitor.examinations import QualityExamination
from exporter.monitor.history import history_row
from exporter.monitor.model import Model
from exporter.monitor.ring import Arrivals
from exporter.monitor.windows import ModelWindows
from exporter.stats.quality import assess
from ingest.runtime.errors import DimensionMismatch, NotFound, PayloadError, StoreUnavailable
from ingest.runtime.settings.settings import (
    MonitoringSettings,
    Settings,
    WindowSettings,
    WindowsSettings,
)
from ingest.store import baselines, history, models
from ingest.store.changes import ModelRow
from ingest.store.connection import connect
from ingest.store.history import HistoryRow
from ingest.store.selection import MOST_VECTORS, Selection, Stretches
from tests.exporter.backfill.lake import (
    FITTED,
    MONITORING,
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
from tests.service import wait_for

Send = Callable[..., None]
NUMBERS = ("score", "cosine_similarity", "norm")


def live(
    detector: Detector, vectors: Vectors, times: Floats, checks: Floats
) -> dict[tuple[float, str], HistoryRow]:
    """What the exporter says at these times, its windows fed as the tail feeds them."""
    now = datetime.now(UTC)
    model = Model(ModelRow("m", vectors.shape[1], 0, None, None, 1, now), MONITORING)
    pinned = Baseline(1, now, FITTED, now, now, False, "first", assess(vectors[:FITTED]), detector)
    model.adopt(pinned, ModelWindows(vectors.shape[1], MONITORING, detector, FITTED))
    said = {}
    for check in checks:
        seen = int(np.searchsorted(times, check, "right"))
        new = slice(model.windows.seen_seq, seen)
        model.windows.append(Arrivals.numbered(vectors[new], times[new], new.start))
        model.windows.seen_seq = seen
        received = datetime.fromtimestamp(times[seen - 1], UTC)
        model.row = ModelRow("m", vectors.shape[1], seen, received, None, 1, now)
        model.windows.advance(check)
        snapshot = model.snapshot(check, with_vectors=True)
        qualities = QualityExamination().examine(snapshot)
        for each in snapshot.series:
            quality = qualities.get(each.series.window)
            norm = None if quality is None else quality.norm
            said[check, each.series.window] = history_row(each.series, each.verdict, norm)
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
    after: Floats = checks[checks >= times[FITTED - 1]]
    return after


@pytest.fixture
def expected(stream: tuple[Vectors, Floats]) -> dict[tuple[float, str], HistoryRow]:
    vectors, times = stream
    detector = Detector.fit(vectors[:FITTED], timestamps=times[:FITTED])
    return live(detector, vectors, times, after_the_baseline(times))


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
    checks = after_the_baseline(stream[1])
    assert sorted(found) == [(check, name) for check in checks for name in ("fast", "slow")]
    assert stored == len(found)
    assert_same_numbers(found, expected)
    # What the test would be worth nothing without.
    assert {row.state for row in expected.values()} == {"ok", "stale", "too_few_vectors"}
    assert max(row.components["duplicates"] for row in expected.values() if row.components) > 1
    most = {
        name: max(row.vectors for (_, window), row in expected.items() if window == name)
        for name in ("fast", "slow")
    }
    assert 140 < most["fast"] < 300 < most["slow"] < FITTED // 2
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
    order = jumbled(times)
    lake = write(tmp_path / "lake", vectors[order], times[order], files=7)
    scratch = tmp_path / "scratch"
    filling = backfill(client, lake, scratch)
    filling.pin(store, Selection(first=FITTED))
    filling.run(store, SETTINGS)
    assert_same_numbers(rows(connection), expected)
    # It was used, and nothing is left.
    assert list(scratch.iterdir()) == []


def test_a_lake_that_was_written_at_least_once_gives_the_same_history(
    client: Client,
    tmp_path: Path,
    store: str,
    connection: psycopg.Connection,
    stream: tuple[Vectors, Floats],
    expected: dict[tuple[float, str], HistoryRow],
) -> None:
    vectors, times = stream
    again = np.flatnonzero(np.random.default_rng(0).random(len(times)) < 0.3)
    which = np.concatenate([np.arange(len(times)), again])
    written = np.concatenate([times, np.round(times[again] + 5, 6)])
    order = np.argsort(written, kind="stable")
    ids = pa.array([f"request-{number}" for number in which[order]])
    parquet.write_table(
        table(vectors[which[order]], written[order], id=ids), tmp_path / "lake.parquet"
    )
    filling = backfill(client, str(tmp_path))
    filling.pin(store, Selection(first=FITTED))
    np.testing.assert_array_equal(baselines.vectors(connection, "m", 1, 8), vectors[:FITTED])
    filling.run(store, SETTINGS)
    assert_same_numbers(rows(connection), expected)


def test_files_in_no_order_need_a_place_to_be_sorted_in(
    client: Client, tmp_path: Path, store: str, stream: tuple[Vectors, Floats]
) -> None:
    vectors, times = stream
    order = jumbled(times)
    filling = backfill(client, write(tmp_path / "lake", vectors[order], times[order]))
    filling.pin(store, Selection(first=FITTED))
    with pytest.raises(PayloadError, match=r"lake is not in the order of time; set --scratch to"):
        filling.run(store, SETTINGS)


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
        current = vectors[young][-min(limits.max_vectors, FITTED // 2) :]
        assert row.vectors == len(current)
        if row.state == "ok":
            assert row.norm == pytest.approx(assess(current).norm, abs=1e-9)
            assert row.score == pytest.approx(detector.score(current), abs=1e-9)
            assert row.changed_ratio is None
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


def test_history_against_another_baseline_is_replaced_where_this_one_can_measure(
    client: Client,
    lake: str,
    store: str,
    connection: psycopg.Connection,
    stream: tuple[Vectors, Floats],
) -> None:
    filling = backfill(client, lake)
    filling.pin(store, Selection(first=FITTED))
    whole = filling.run(store, SETTINGS)
    before = rows(connection)
    filling.pin(store, Selection(first=FITTED + 500))
    replaced = filling.run(store, SETTINGS)
    found = rows(connection)
    assert len(found) == whole
    later = {key: row for key, row in found.items() if key[0] >= stream[1][FITTED + 499]}
    assert len(later) == replaced > whole / 2
    assert {row.baseline_version for row in later.values()} == {2}
    assert {key: found[key] for key in found.keys() - later.keys()} == {
        key: before[key] for key in found.keys() - later.keys()
    }


def test_what_the_exporter_recorded_against_another_baseline_stays_as_it_is(
    client: Client,
    lake: str,
    store: str,
    connection: psycopg.Connection,
    stream: tuple[Vectors, Floats],
) -> None:
    _, times = stream
    filling = backfill(client, lake)
    filling.pin(store, Selection(first=FITTED))
    filling.run(store, SETTINGS)
    # As if the exporter had recorded them, 7.5 seconds after each check time.
    connection.execute("update drift_history set computed_at = computed_at - interval '7.5 s'")
    measured = rows(connection)
    scores = history.average_scores(connection, times[0], times[-1])
    start, end = (datetime.fromtimestamp(times[at], UTC) for at in (2_000, 2_999))
    filling.pin(store, Selection(start=start, end=end))
    assert filling.run(store, SETTINGS) > 0
    found = rows(connection)
    assert measured.items() <= found.items()
    # Only before the first baseline there was nothing.
    assert max(check for check, _ in found.keys() - measured.keys()) < times[FITTED]
    since = min(check for check, _ in measured) - 1
    assert history.average_scores(connection, since, times[-1]) == scores


def test_a_model_that_was_made_again_meanwhile_gets_no_history_of_the_removed_one(
    client: Client,
    lake: str,
    store: str,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    filling = backfill(client, lake)
    filling.pin(store, Selection(first=FITTED))
    measure = cluster.history

    def interrupted(*arguments: Any) -> Iterator[tuple[int, list[Row]]]:
        measured = measure(*arguments)
        yield next(measured)
        models.remove(connection, "m")
        assert filling.pin(store, Selection(first=FITTED)) == 1
        yield from measured

    monkeypatch.setattr(cluster, "history", interrupted)
    with pytest.raises(NotFound, match="baseline 1 of model m is gone: the model was removed"):
        filling.run(store, SETTINGS)
    assert rows(connection) == {}


HOLD = """
    create function hold() returns trigger language plpgsql as $$
        begin perform pg_advisory_xact_lock(1); return new; end $$;
    create trigger hold before insert on drift_history for each row
        when (new.computed_at >= to_timestamp({last})) execute function hold()
"""


def test_a_restart_does_the_rest_after_a_kill(
    client: Client, tmp_path: Path, store: str, connection: psycopg.Connection, vectors: Vectors
) -> None:
    times = START + np.arange(5_000.0) * 60
    lake = write(tmp_path / "lake", vectors[np.arange(5_000) % 1_300], times, files=4)
    config = tmp_path / "config.yaml"
    config.write_text(
        f"database: {{connection_string: {json.dumps(store)}}}\n"
        "monitoring: {check_interval: 120, baseline: {vectors: 1000},"
        " windows: {fast: {seconds: 3600}, slow: {seconds: 7200}}}\n"
    )
    command = [sys.executable, "-m", "exporter", "backfill", lake, "--model", "m"]
    command += ["--config", str(config)]
    subprocess.run([*command, "--baseline"], check=True, timeout=600)

    def stored() -> dict[tuple[object, ...], int]:
        found = connection.execute(
            "select window_name, computed_at, xmin::text::int from drift_history"
        ).fetchall()
        return {row[:-1]: row[-1] for row in found}

    checks = check_times(times[999], times[-1], 120)
    # However late the kill comes, the last row waits for it.
    connection.execute(HOLD.format(last=float(checks[-1])).encode())
    connection.execute("select pg_advisory_lock(1)")
    # A group of their own, for the whole of it to be killed as if the machine went down.
    environment = os.environ | {"TMPDIR": str(tmp_path)}  # what is killed cannot clean up
    with subprocess.Popen(command, start_new_session=True, env=environment) as running:
        deadline = time.monotonic() + 600
        while not stored():
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.killpg(running.pid, signal.SIGKILL)
    connection.execute(
        "select pg_terminate_backend(pid, 60000) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )
    connection.execute("drop trigger hold on drift_history")
    before = stored()
    done = subprocess.run(command, check=True, timeout=600, capture_output=True, text=True)
    after = stored()
    assert 0 < len(before) < len(after) == 2 * len(checks)
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
    assert pinned.first_at.timestamp() == times[0]
    assert pinned.last_at.timestamp() == times[FITTED - 1]


def test_files_are_measured_in_the_time_zone_of_their_baseline(
    client: Client,
    lake: str,
    store: str,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kolkata = ZoneInfo("Asia/Kolkata")
    judges = []

    def judge(*given: Any) -> Judge:
        judges.append(Judge(*given))
        return judges[-1]

    monkeypatch.setattr("exporter.backfill.backfill.Judge", judge)
    filling = backfill(client, lake)
    filling.pin(store, Selection(first=FITTED), kolkata)
    assert baseline.load(connection, "m", 1).zone == kolkata
    assert filling.run(store, SETTINGS) > 0
    assert {each.zone for each in judges} == {kolkata}


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
    parquet.write_table(table(numbers, START + np.arange(float(count))), path)
    backfill(client, str(path)).pin(store, Selection(start=datetime(2000, 1, 1, tzinfo=UTC)))
    places = Stretches.of(count, MOST_VECTORS).places(count)
    assert 49_000 < len(places) <= MOST_VECTORS
    np.testing.assert_array_equal(baselines.vectors(connection, "m", 1, 1), numbers[places])


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
            baselines.lock(other)
            pinning = pool.submit(backfill(client, lake).pin, store, Selection(first=FITTED))
            wait_for(waits, "the lock")
            send(vectors[:10])
        assert pinning.result() == 1


def test_another_dimension_than_the_models_is_refused(
    client: Client, lake: str, store: str, send: Send
) -> None:
    send(np.ones((1, 5), np.float32))
    with pytest.raises(DimensionMismatch, match="dimension 5, not 8"):
        backfill(client, lake).pin(store, Selection(first=FITTED))


def test_another_dimension_is_refused_before_all_files_are_read(
    client: Client, lake: str, store: str, send: Send
) -> None:
    send(np.ones((1, 5), np.float32))
    (Path(lake) / "last.parquet").write_text("no Parquet")
    with pytest.raises(DimensionMismatch, match="dimension 5, not 8"):
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
    with pytest.raises(StoreUnavailable):
        filling.run(store, SETTINGS)
    with pytest.raises(StoreUnavailable):
        filling.pin(store, Selection(first=FITTED))


def test_history_needs_a_baseline(client: Client, lake: str, store: str, send: Send) -> None:
    with pytest.raises(NotFound, match="no model 'm'"):
        backfill(client, lake).run(store, SETTINGS)
    send(np.ones((1, 8), np.float32))
    with pytest.raises(NotFound, match="model m has no baseline yet; pin one first"):
        backfill(client, lake).run(store, SETTINGS)


def test_too_few_vectors_make_no_baseline(client: Client, lake: str, store: str) -> None:
    with pytest.raises(PayloadError, match=r"lake has 99 vectors of model m \(first 99\)"):
        backfill(client, lake).pin(store, Selection(first=99))


def test_vectors_that_make_no_baseline_are_an_error_that_names_them(
    client: Client, tmp_path: Path, store: str, vectors: Vectors
) -> None:
    absurd = vectors[:105].copy()
    absurd[::10] *= np.float32(1e6)
    lake = write(tmp_path / "lake", absurd, made(105), files=1)
    message = r"^baseline of m \(.*lake: first 105\): a reference needs at least 100 .*, got 94$"
    with pytest.raises(PayloadError, match=message):
        backfill(client, lake).pin(store, Selection(first=105))


def test_a_time_that_is_off_by_decades_is_named_with_its_file(
    client: Client, lake: str, tmp_path: Path, store: str
) -> None:
    backfill(client, lake).pin(store, Selection(first=FITTED))
    early = write(tmp_path / "early", np.ones((2, 8), np.float32), np.array([0.0, START]), files=2)
    message = r"1970-01-01 00:00:00 UTC \(in /.*000\.parquet\).* check times .*'timestamp'"
    with pytest.raises(PayloadError, match=message):
        backfill(client, early).run(store, SETTINGS)


def test_a_time_that_is_off_by_decades_takes_no_memory(
    client: Client, lake: str, tmp_path: Path, store: str
) -> None:
    backfill(client, lake).pin(store, Selection(first=FITTED))
    times = np.array([1.0, START])
    early = write(tmp_path / "early", np.ones((2, 8), np.float32), times)
    tracemalloc.start()
    try:
        with pytest.raises(PayloadError, match="check times"):
            backfill(client, early).run(store, SETTINGS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A time for each check would be 45 MB.
    assert peak < 20_000_000


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["backfill", *arguments])
    return result.exit_code, result.output


def test_the_command_names_what_it_cannot_do(lake: str) -> None:
    assert invoke(lake, "--model", "a b")[0] == 2
    code, output = invoke(lake, "--model", "m", "--from", "2026-01-01")
    assert (code, output) == (2, "Error: --from and --to need --baseline\n")


def test_the_command_makes_the_schema_of_a_fresh_store(
    lake: str, empty_database: str, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"database: {{connection_string: {json.dumps(empty_database)}}}\n")
    code, output = invoke(lake, "--model", "m", "--baseline", "--config", str(config))
    assert (code, output.splitlines()[-1]) == (0, "m: baseline 1 pinned (first 5000)")


def test_the_command_says_which_files_it_leaves_out(lake: str) -> None:
    (Path(lake) / "state.json").write_text("{}")
    nowhere = "database.connection_string=host=127.0.0.1 port=1"
    code, output = invoke(lake, "--model", "m", "--set", nowhere)
    assert code == 1
    assert "left out, because files of such names hold no data: state.json\n" in output


def test_without_the_extra_the_command_says_what_to_install(
    lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ours in ("backfill", "cluster"):
        monkeypatch.delitem(sys.modules, f"exporter.backfill.{ours}")
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert invoke(lake, "--model", "m") == (
        1,
        f"Error: needs distributed: {sys.executable} -m pip install"
        " 'embedding-drift-exporter[scale]'\n",
    )
