"""The fleet: any process shows every model, whichever exporter follows it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx2
import msgspec
import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from psycopg.conninfo import make_conninfo
from starlette.testclient import TestClient

from exporter.detector.exact import compare
from exporter.http.app import Exporter
from exporter.http.showing import Showing
from exporter.monitor import reporting
from exporter.monitor.model import Model
from exporter.monitor.monitor import Monitor
from exporter.monitor.series import Series
from exporter.monitor.snapshot import ModelSnapshot
from ingest.runtime.http import application
from ingest.runtime.settings.configuration import load
from ingest.runtime.settings.reload import LiveSettings
from ingest.runtime.settings.settings import MonitoringSettings
from ingest.store import explanations, history, models, reports, slice_history
from ingest.store.changes import ModelRow
from ingest.store.connection import connect
from ingest.store.history import HistoryRow
from ingest.store.reports import Report
from tests.exporter.explained import SUMMARY, drawn, explained, point
from tests.exporter.shown import ACME, BOLT, scored
from tests.service import serving, wait_for

Vectors = NDArray[np.float32]

NAMES = [f"model/{number}" for number in range(6)]
BROWSER = {"Accept": "text/html"}
CONFIG = """
monitoring: {{poll_interval: 0.1, check_interval: 1, total_shards: 2, baseline: {{vectors: 250}}}}
server: {{port: 0}}
database: {{connection_string: {store}}}
"""


@pytest.fixture
def config(store: str, tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG.format(store=json.dumps(store)))
    return file


@contextmanager
def starting(store: str, **flags: int) -> Iterator[TestClient]:
    """An exporter of a store that checks every second, and may not have read it yet."""
    settings = load(
        flags={"monitoring.poll_interval": 0.1, "monitoring.check_interval": 1}
        | {"monitoring.baseline.vectors": 250}
        | {f"monitoring.{name}": value for name, value in flags.items()}
    )
    registry = CollectorRegistry()
    half = Exporter(Monitor(store, settings), registry)
    app = application.application(registry, LiveSettings(lambda: settings), half)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def is_ready(client: TestClient) -> bool:
    return client.get("/-/ready").status_code == 200


@contextmanager
def shard(store: str, ordinal: int) -> Iterator[TestClient]:
    """One of two exporters of a store, which checks every second."""
    with starting(store, total_shards=2, shard=ordinal) as client:
        wait_for(lambda: is_ready(client), "the first poll")
        yield client


@contextmanager
def showing(store: str, texts: str = "keywords") -> Iterator[TestClient]:
    """What `ingest` shows of a store."""
    half = Showing(store, load(flags={"explanation.texts": texts}))
    app = application.application(CollectorRegistry(), LiveSettings(load), half)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@contextmanager
def fleet(store: str, send: Callable[..., None], vectors: Vectors) -> Iterator[list[TestClient]]:
    """Two exporters and what `ingest` shows, with six models that are measured."""
    with ExitStack() as stack:
        clients = [stack.enter_context(shard(store, ordinal)) for ordinal in (0, 1)]
        clients.append(stack.enter_context(showing(store)))
        for name in NAMES:
            send(vectors[:250], name)
        wait_for(lambda: all(has(clients[2], name, "baseline") for name in NAMES), "baselines")
        for name in NAMES:
            send(vectors[250:350], name)
        wait_for(lambda: all(is_measured(client) for client in clients), "verdicts")
        yield clients


def has(client: TestClient, name: str, field: str) -> bool:
    answer = client.get(f"/drift/{name}")
    return answer.is_success and answer.json()[field] is not None


def is_measured(client: TestClient) -> bool:
    windows = [client.get(f"/drift/{name}").json()["windows"] for name in NAMES]
    return all("magnitude" in each["fast"] for each in windows)


def owners(connection: psycopg.Connection) -> dict[str, int]:
    """Which of two exporters follows each model."""
    query = "select name, shard_of(name, 2) from unnest(%s::text[]) as each (name)"
    return dict(connection.execute(query, [NAMES]).fetchall())


def is_checked(client: httpx2.Client, name: str) -> bool:
    return not client.get(f"/drift/{name}").json()["overdue"]


def overdue(client: httpx2.Client) -> set[str]:
    listed = client.get("/drift").json()["models"]
    return {each["model_name"] for each in listed if each["overdue"]}


def tells_of_its_last_check(client: httpx2.Client, name: str) -> bool:
    return "saw at its last check" in client.get(f"/drift/{name}", headers=BROWSER).text


def age(client: httpx2.Client, name: str) -> float:
    return float(client.get(f"/drift/{name}").raise_for_status().json()["age"])


def test_every_process_shows_every_model(
    store: str, send: Callable[..., None], connection: psycopg.Connection, vectors: Vectors
) -> None:
    has_models = owners(connection)
    assert set(has_models.values()) == {0, 1}
    with fleet(store, send, vectors) as clients:
        for ordinal, client in enumerate(clients):
            listed = client.get("/drift").json()["models"]
            assert [model["model_name"] for model in listed] == NAMES
            assert {model["windows"]["fast"]["state"] for model in listed} == {"ok"}
            assert {model["windows"]["fast"]["vectors"] for model in listed} == {100}
            assert "<h1>6 models</h1>" in client.get("/").text
            for name, owner in has_models.items():
                # On a busy machine, a check may be late.
                wait_for(partial(is_checked, client, name), "a check")
                report = client.get(f"/drift/{name}").json()
                assert report["vectors"] == 350
                assert report["windows"]["fast"]["vectors"] == 100
                assert (report["age"] == 0) == (owner == ordinal)
                page = client.get(f"/drift/{name}", headers=BROWSER)
                assert f"<h1>{name}</h1>" in page.text
                if owner == ordinal:
                    assert not tells_of_its_last_check(client, name)
                else:
                    # Not while a check is late: then the exporter is away.
                    wait_for(partial(tells_of_its_last_check, client, name), "its last check")
                checks = client.get(f"/drift/{name}/history").json()["checks"]
                assert checks[0]["vectors"] == 100
            names = {name for name in NAMES if f'model_name="{name}"' in metrics(client)}
            assert names == {name for name, owner in has_models.items() if owner == ordinal}


def metrics(client: TestClient) -> str:
    return client.get("/metrics").text


def test_exporters_compute_from_the_store_what_they_do_not_follow(
    store: str, send: Callable[..., None], connection: psycopg.Connection, vectors: Vectors
) -> None:
    expected = compare(vectors[:250], vectors[250:350]).wasserstein
    with fleet(store, send, vectors) as (*exporters, ingest):
        for client in exporters:
            for name in NAMES:
                fast = client.get(f"/drift/{name}?exact=true").json()["windows"]["fast"]
                assert np.allclose(fast["exact"]["wasserstein"], expected)
                newest = client.get(f"/models/{name}/vectors?newest=3").json()["vectors"]
                assert [each["seq"] for each in newest] == [350, 349, 348]
                assert all(0 <= each["novelty"] <= 1 for each in newest)
        refused = ingest.get(f"/drift/{NAMES[0]}?exact=true")
        assert refused.status_code == 400
        assert "only exporters compute" in refused.json()["detail"]


def test_a_fleet_is_shown_while_the_exporter_of_a_part_of_it_is_dead(
    config: Path, send: Callable[..., None], connection: psycopg.Connection, vectors: Vectors
) -> None:
    def are_shown(client: httpx2.Client) -> bool:
        return all(client.get(f"/drift/{name}").is_success for name in NAMES)

    def are_overdue(client: httpx2.Client) -> bool:
        return not any(is_checked(client, name) for name in lost)

    def are_listed_as_lost(client: httpx2.Client) -> bool:
        # Without the models of others, if the store was slow.
        shown = client.get("/?state=cannot+tell").text
        return all(name in shown for name in lost) and "the last word was: learning" in shown

    for name in NAMES:
        send(vectors[:60], name)
    lost = [name for name, owner in owners(connection).items() if owner == 0]
    with ExitStack() as stack:
        dying, living = (
            stack.enter_context(serving(config, "exporter", "--shard", str(ordinal)))
            for ordinal in (0, 1)
        )
        ingest = stack.enter_context(serving(config, "ingest"))
        clients = [
            stack.enter_context(httpx2.Client(base_url=each.url, timeout=60))
            for each in (living, ingest)
        ]
        for client in clients:
            wait_for(partial(are_shown, client), "the reports")
        dying.process.kill()
        dying.process.wait()
        for client in clients:
            wait_for(partial(are_overdue, client), "the age")
            for name in lost:
                first = age(client, name)
                assert first > 3
                wait_for(lambda: age(client, name) > first, "a greater age")  # noqa: B023
                page = client.get(f"/drift/{name}", headers=BROWSER).text
                assert "The exporter of this model is away" in page
                assert "No exporter has checked it for" in page
                assert 'href="/runbook#embeddingdriftexporterdown"' in page
            wait_for(partial(are_listed_as_lost, client), "the list")
            # On a busy machine, a check of the others may be late, too.
            wait_for(lambda: overdue(client) == set(lost), "the checks")  # noqa: B023


def test_a_model_that_no_exporter_has_checked_is_listed_and_not_made_up(
    store: str, send: Callable[..., None], vectors: Vectors
) -> None:
    send(vectors[:60], "new")
    with showing(store) as client:
        [listed] = client.get("/drift").json()["models"]
        assert (listed["age"], listed["windows"]["fast"]["state"]) == (None, "not_followed")
        assert "no exporter has checked it yet" in client.get("/").text
        answer = client.get("/drift/new")
        assert (answer.status_code, answer.json()["title"]) == (503, "Not checked yet")
        assert answer.headers["Retry-After"]
        assert client.get("/drift/none").status_code == 404
        assert client.get("/drift/%00").status_code == 404


def test_a_new_model_is_reported_before_the_next_check(
    store: str, send: Callable[..., None], connection: psycopg.Connection, vectors: Vectors
) -> None:
    settings = load(flags={"monitoring.poll_interval": 0.1, "monitoring.check_interval": 3_600})
    registry = CollectorRegistry()
    app = application.application(
        registry, LiveSettings(lambda: settings), Exporter(Monitor(store, settings), registry)
    )
    with TestClient(app) as exporter, showing(store) as client:
        finished = "embedding_drift_check_timestamp_seconds "
        wait_for(lambda: finished in metrics(exporter), "the only check")
        send(vectors[:60], "new")
        wait_for(
            lambda: bool(metrics(exporter)) and client.get("/drift/new").is_success, "its report"
        )


def test_a_removed_model_is_gone_everywhere(
    store: str, send: Callable[..., None], connection: psycopg.Connection, vectors: Vectors
) -> None:
    for name in NAMES:
        send(vectors[:60], name)
    with shard(store, 0) as exporter, showing(store) as client:
        [gone, *_] = [name for name, owner in owners(connection).items() if owner == 0]
        wait_for(lambda: client.get(f"/drift/{gone}").is_success, "the report")
        models.remove(connection, gone)
        assert client.get(f"/drift/{gone}").status_code == 404
        assert gone not in client.get("/").text
        wait_for(lambda: gone not in exporter.get("/drift").text, "the poll")
        assert exporter.get(f"/drift/{gone}").status_code == 404


def test_a_store_that_only_reads_is_enough_to_show_the_fleet(
    store: str, send: Callable[..., None], vectors: Vectors
) -> None:
    for name in NAMES:
        send(vectors[:60], name)
    with shard(store, 0), shard(store, 1), showing(store) as client:
        wait_for(lambda: all(has(client, name, "windows") for name in NAMES), "the reports")
    read_only = make_conninfo(store, options="-c default_transaction_read_only=on")
    with shard(read_only, 0) as client, showing(read_only) as other:
        for each in (client, other):
            assert "<h1>6 models</h1>" in each.get("/").text
            assert {each.get(f"/drift/{name}").status_code for name in NAMES} == {200}
            assert len(each.get(f"/drift/{NAMES[0]}/history").json()["checks"]) > 0


def test_without_the_store_an_exporter_shows_what_it_follows_and_ingest_says_why_not(
    store: str, send: Callable[..., None], connection: psycopg.Connection, vectors: Vectors
) -> None:
    for name in NAMES:
        send(vectors[:60], name)
    own = [name for name, owner in owners(connection).items() if owner == 0]
    with shard(store, 0) as exporter, showing(store) as client:
        wait_for(lambda: all(name in metrics(exporter) for name in own), "the models")
        connection.execute("alter table model rename to gone")
        page = exporter.get("/").text
        assert f"<h1>{len(own)} model" in page
        assert "PostgreSQL does not answer" in page
        assert exporter.get("/drift").status_code == 503
        for name in NAMES:
            assert exporter.get(f"/drift/{name}").status_code == (200 if name in own else 503)
            assert client.get(f"/drift/{name}").status_code == 503
        for path in ("/", "/drift", f"/drift/{NAMES[0]}/history"):
            answer = client.get(path)
            assert (answer.status_code, bool(answer.headers["Retry-After"])) == (503, True)
        assert client.get("/runbook").is_success


def test_an_exporter_that_has_not_read_the_store_yet_shows_what_the_store_has(
    store: str, send: Callable[..., None], vectors: Vectors
) -> None:
    send(vectors[:60], "m")
    with connect(store) as other, ExitStack() as stack:
        with other.transaction():
            # The first poll waits for it.
            other.execute("lock table embedding")
            client = stack.enter_context(starting(store))
            [listed] = client.get("/drift").json()["models"]
            assert (listed["model_name"], listed["age"]) == ("m", None)
            answer = client.get("/drift/m")
            assert (answer.status_code, answer.json()["title"]) == (503, "Not checked yet")
            assert "<h1>1 model</h1>" in client.get("/").text
            assert client.get("/drift/none").status_code == 404
            assert not is_ready(client)
        wait_for(lambda: is_ready(client), "the first poll")
        assert client.get("/drift/m").json()["vectors"] == 60
        assert client.get("/drift/none").status_code == 404


def test_an_exporter_that_has_never_reached_the_store_does_not_say_that_it_is_empty(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.http.fleet.ANSWER_SECONDS", 0.2)
    monkeypatch.setattr("exporter.http.fleet._PAGE_SECONDS", 0.2)
    nowhere = make_conninfo(store, host="127.0.0.1", port=1)
    with starting(nowhere) as client:
        for path in ("/", "/drift", "/drift/m"):
            answer = client.get(path)
            assert (answer.status_code, bool(answer.headers["Retry-After"])) == (503, True)


@pytest.mark.parametrize(("texts", "is_shown"), [("full", True), ("keywords", False)])
def test_a_stored_explanation_that_says_more_than_is_allowed_now_is_not_shown(
    texts: str,
    is_shown: bool,
    store: str,
    connection: psycopg.Connection,
    send: Callable[..., None],
    vectors: Vectors,
) -> None:
    send(vectors[:10], "m")
    dimension = vectors.shape[1]
    model = Model(
        ModelRow("m", dimension, 10, None, None, None, datetime.now(UTC)), MonitoringSettings()
    )
    row = explained(time.time())
    model.standing.explained = {
        Series("m", "fast"): replace(row, told={**row.told, "texts": "full"})
    }
    made = reporting.detail(model.snapshot(time.time()))
    reports.write(connection, [Report("m", 0.0, b"{}", msgspec.json.encode(made))], 300)
    with showing(store, texts) as client:
        window = client.get("/drift/m").raise_for_status().json()["windows"]["fast"]
        page = client.get("/drift/m", headers=BROWSER).raise_for_status().text
    assert ("explanation" in window) == is_shown
    assert (SUMMARY in page) == is_shown


def test_a_slice_has_a_page_a_past_and_a_history(
    store: str, connection: psycopg.Connection, send: Callable[..., None], vectors: Vectors
) -> None:
    send(vectors[:10], "m")
    dimension, at = vectors.shape[1], time.time()
    model = Model(
        ModelRow("m", dimension, 10, None, None, None, datetime.now(UTC)), MonitoringSettings()
    )
    made = reporting.detail(model.snapshot(at))
    reports.write(connection, [Report("m", 0.0, b"{}", msgspec.json.encode(made))], 300)
    row = HistoryRow("m", "fast", "ok", 90, 1, 30.0, 0.5, 0.4, 0.6)
    slice_history.append(connection, [("tenant=a&b", row)])
    explanations.keep(connection, replace(explained(at), slice="tenant=a&b"), 900)
    asked = {"at": f"{time.time() + 1:.0f}"}
    with showing(store) as client:
        then = client.get("/drift/m", params=asked).raise_for_status().json()
        checks = client.get("/drift/m/history?slice=tenant%3Da%26b&window=fast").json()["checks"]
        of_slice = asked | {"slice": "tenant=a&b"}
        page = client.get("/drift/m", params=of_slice, headers=BROWSER).raise_for_status().text
        missing = client.get("/drift/m?slice=tenant%3Dx", headers=BROWSER)
        for path in ("/drift/m?slice=%00", "/drift/m/history?slice=%00"):
            assert "slice is '\\x00'; allowed are" in client.get(path).json()["detail"]
        assert "KEY=VALUE" in client.get("/drift/m?slice=tenant").json()["detail"]
        unknown = client.get("/drift/m/history?slice=tenant%3Dx")
        both = client.get("/drift/m?map=fast&slice=tenant%3Da%26b")
    assert then["slices"]["tenant=a&b"]["fast"]["score"] == 30.0
    assert [each["slice"] for each in then["explanations"]] == ["tenant=a&b"]
    assert [each["score"] for each in checks] == [30.0]
    assert "<h1>m, tenant=a&amp;b</h1>" in page
    assert "The score of the fast window of tenant=a&amp;b is 30.0" in page
    assert "audio, player" in page
    assert missing.status_code == 404
    assert "model 'm' has no slice 'tenant=x'; it has none" in missing.json()["detail"]
    assert (unknown.status_code, both.status_code) == (404, 404)
    assert "of a slice 'tenant=x' of model 'm'" in unknown.json()["detail"]
    assert "has no map" in both.json()["detail"]


def test_the_hour_of_a_slice_comes_from_the_store(
    store: str,
    connection: psycopg.Connection,
    send: Callable[..., None],
    vectors: Vectors,
    sliced: ModelSnapshot,
) -> None:
    send(vectors[:10], "m")
    model = scored(sliced, {("fast", BOLT): 12.0})
    row = HistoryRow("m", "fast", "ok", 100, 1, 12.0)
    with showing(store) as client:
        for of_slice, word in ((ACME, "quiet"), (BOLT, "drifting")):
            slice_history.append(connection, [(of_slice, row)])
            made = reporting.detail(replace(model, computed_at=time.time()))
            glance = msgspec.json.encode(reporting.listed(model))
            whole = Report("m", 0.0, glance, msgspec.json.encode(made))
            reports.write(connection, [whole], 300)
            for path in ("/", "/drift/m", "/drift/m?slice=tenant%3Dbolt"):
                page = client.get(path, headers=BROWSER).raise_for_status().text
                assert f'<span class="word {word}">{word}</span>' in page
                assert ("drifting</span>" in page) == (word == "drifting")


def test_a_past_time_judges_a_slice_by_its_hour_of_then(
    store: str, connection: psycopg.Connection, send: Callable[..., None], vectors: Vectors
) -> None:
    send(vectors[:10], "m")
    model = Model(
        ModelRow("m", vectors.shape[1], 10, None, None, None, datetime.now(UTC)),
        MonitoringSettings(),
    )
    made = reporting.detail(model.snapshot(time.time()))
    reports.write(connection, [Report("m", 0.0, b"{}", msgspec.json.encode(made))], 300)
    row = HistoryRow("m", "fast", "ok", 100, 1, 12.0)
    history.append(connection, [replace(row, score=0.3)])
    slice_history.append(connection, [(BOLT, row)])
    asked = {"at": f"{time.time() + 1:.0f}"}
    with showing(store) as client:
        page = client.get("/drift/m", params=asked, headers=BROWSER).raise_for_status().text
    assert '<p class="lead"><span class="word drifting">drifting</span>' in page
    assert "The score of the fast window of tenant=bolt is 12.0" in page


def test_a_past_time_that_cannot_be_read_is_no_time_without_a_record(
    store: str, send: Callable[..., None], vectors: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(vectors[:60], "m")
    with starting(store) as client, connect(store) as other, other.transaction():
        wait_for(lambda: is_ready(client), "the first poll")
        other.execute("lock table drift_history")
        monkeypatch.setattr("exporter.http.fleet.ANSWER_SECONDS", 0.2)
        monkeypatch.setattr("exporter.http.fleet._PAGE_SECONDS", 0.2)
        then = client.get("/drift/m?at=2026-01-01T00:00:00Z", headers=BROWSER)
        assert (then.status_code, bool(then.headers["Retry-After"])) == (503, True)
        now = client.get("/drift/m", headers=BROWSER)
        assert now.status_code == 200
        assert "PostgreSQL does not answer in time, so the past is not shown" in now.text


def test_the_map_of_a_window_that_drifts_or_drifted_is_there_for_programs(
    store: str, connection: psycopg.Connection, send: Callable[..., None], vectors: Vectors
) -> None:
    send(vectors[:10], "m")
    at = round(time.time(), 3)
    row = explained(at)
    model = Model(
        ModelRow("m", vectors.shape[1], 10, None, None, None, datetime.now(UTC)),
        MonitoringSettings(),
    )
    model.standing.explained = {Series("m", "fast"): row}
    made = reporting.detail(model.snapshot(at))
    reports.write(connection, [Report("m", 0.0, b"{}", msgspec.json.encode(made))], 300)
    explanations.keep(connection, row, 900)
    explanations.keep_map(connection, row, drawn(point(7, "g1")))
    with showing(store) as client:
        now = client.get("/drift/m?map=fast").raise_for_status().json()
        then = client.get(f"/drift/m?map=fast&at={at + 1:.0f}").raise_for_status().json()
        missing = client.get("/drift/m?map=slow")
        wrong = client.get("/drift/m?map=both")
    assert now == then
    assert [(each["seq"], each["group"]) for each in now["points"]] == [(7, "g1")]
    assert now["groups"][0]["name"] == "audio, player"
    assert missing.status_code == 404
    assert "the slow window of m has no map now" in missing.json()["detail"]
    assert wrong.status_code == 400


def test_a_name_that_no_model_may_have_is_not_found(store: str) -> None:
    with showing(store) as client:
        for path in ("/drift/%00?at=2026-01-01T00:00:00Z", "/drift/%00/history"):
            assert client.get(path).status_code == 404
