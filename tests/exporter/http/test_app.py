"""The exporter half over HTTP."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import httpx2
import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

from exporter.detector.exact import compare
from exporter.http.app import Exporter
from exporter.monitor import baseline, reporting
from exporter.monitor.monitor import Monitor
from exporter.stats.columns import sorted_columns
from ingest.runtime.http import application, exposition
from ingest.runtime.settings.configuration import load
from ingest.runtime.settings.reload import LiveSettings
from ingest.store import explanations, history
from ingest.store.batch import Batch
from ingest.store.connection import AsyncConnection, connect
from ingest.store.history import HistoryRow
from ingest.store.selection import Selection
from ingest.store.vectors import insert
from tests.exporter.explained import explained
from tests.service import wait_for

Vectors = NDArray[np.float32]


def test_an_exporter_that_starts_does_not_import_what_only_drift_needs() -> None:
    program = "import sys, exporter.http.app; print('scipy.stats' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.stdout.strip() == "False", found.stderr


@pytest.fixture
def client(store: str, connection: psycopg.Connection, vectors: Vectors) -> Iterator[TestClient]:
    """A service that follows a store with the model a/b, its baseline and 100 newer vectors."""

    async def fill(rows: Vectors) -> None:
        async with await AsyncConnection.connect(store, autocommit=True) as own:
            await insert(own, [Batch("a/b", rows)], 10)

    asyncio.run(fill(vectors[:1_000]))
    baseline.pin(connection, "a/b", Selection(first=1_000))
    asyncio.run(fill(vectors[1_000:1_100]))
    registry = exposition.process_registry()
    settings = load(flags={"monitoring.poll_interval": 0.1})
    half = Exporter(Monitor(store, settings), registry)
    app = application.application(registry, LiveSettings(lambda: settings), half)
    with TestClient(app, raise_server_exceptions=False) as client:
        wait_for(lambda: client.get("/-/ready").status_code == 200, "readiness")
        yield client


@pytest.mark.parametrize("path", ["/drift/a/b", "/drift/a%2Fb"])
def test_a_name_with_a_slash_is_found_written_either_way(client: TestClient, path: str) -> None:
    assert client.get(path).json()["model_name"] == "a/b"


@pytest.mark.parametrize("name", ["@cf/baai/bge", "/models/m", "\u6a21\u578b#2?", "100%{a}"])
def test_any_name_survives_a_label_a_link_and_a_path(
    client: TestClient, connection: psycopg.Connection, store: str, name: str
) -> None:
    async def fill() -> None:
        async with await AsyncConnection.connect(store, autocommit=True) as own:
            await insert(own, [Batch(name, np.ones((1, 3), np.float32))], 10)

    asyncio.run(fill())
    label = f'{{model_name="{name}"}}'
    wait_for(lambda: label in client.get("/metrics").text, "the model in the metrics")
    link = re.search(rf'<a href="([^"]*)">{re.escape(name)}</a>', client.get("/").text)
    assert link is not None
    assert client.get(link[1]).json()["model_name"] == name


def test_the_report_holds_the_numbers_behind_the_verdict(client: TestClient) -> None:
    # Quality comes from the first check, which follows the first poll.
    wait_for(lambda: "quality" in client.get("/drift/a/b").json()["windows"]["fast"], "a check")
    report = client.get("/drift/a/b").json()
    assert set(report) == {
        "model_name",
        "dimension",
        "vectors",
        "last_vector_at",
        "computed_at",
        "age",
        "overdue",
        "following",
        "baseline",
        "canaries",
        "slices",
        "slices_folded",
        "windows",
    }
    assert (report["age"], report["overdue"]) == (0, False)
    assert report["vectors"] == 1_100
    assert report["baseline"]["source"] == "first 1000"
    assert report["baseline"]["time_zone"] == "UTC"
    fast = report["windows"]["fast"]
    assert (fast["state"], fast["vectors"], fast["max_vectors"]) == ("ok", 100, 500)
    assert set(fast["ks"]) == set(fast["wasserstein"]) == {"mean", "p95", "max"}
    assert len(fast["top_dimensions"]) == 5
    assert "exact" not in fast
    assert set(fast["quality"]) == set(report["baseline"]["quality"])


def test_a_past_time_has_the_checks_and_the_explanations_of_then(
    client: TestClient, connection: psycopg.Connection
) -> None:
    now = time.time()
    old = HistoryRow("a/b", "fast", "ok", 100, 1, 21.5, 0.12, 0.09, 0.15, 0.5, 1.0, {"mean": 20.0})
    history.fill(connection, [(now - 7_200, old)])
    row = explained(now - 7_100, "a/b")
    explanations.keep(connection, row, 900)
    explanations.keep(connection, replace(row, window_name="slow", slice="tenant=acme"), 900)
    at = datetime.fromtimestamp(now - 7_000, UTC).isoformat().replace("+00:00", "Z")
    told = client.get(f"/drift/a/b?at={at}").json()
    assert told["checks"]["fast"]["score"] == 21.5
    fast, of_slice = told["explanations"]
    assert (fast["window"], fast["summary"]) == ("fast", row.summary)
    assert fast["groups"][0]["examples"] == [
        {"seq": 7, "id": "doc 7", "received_at": "2026-01-01T00:00:00Z"}
    ]
    assert of_slice["slice"] == "tenant=acme"
    page = client.get(f"/drift/a/b?at={at}", headers={"Accept": "text/html"}).text
    assert "What changed in the fast window" in page
    assert re.search("What changed in the slow window, <a [^>]*>tenant=acme</a>", page)
    later = datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z")
    assert client.get(f"/drift/a/b?at={later}").json()["explanations"] == []


def test_a_past_explanation_that_another_release_has_stored_in_another_form_is_left_out(
    client: TestClient, connection: psycopg.Connection
) -> None:
    now = time.time()
    row = explained(now - 7_100, "a/b")
    kind = {"cause": {"kind": "of a later release", "evidence": []}}
    explanations.keep(connection, replace(row, told={**row.told, **kind}), 900)
    explanations.keep(connection, replace(row, window_name="slow", told={"new": 1}), 900)
    at = datetime.fromtimestamp(now - 7_000, UTC).isoformat().replace("+00:00", "Z")
    assert client.get(f"/drift/a/b?at={at}").json()["explanations"] == []
    for path in (f"/drift/a/b?at={at}", "/drift/a/b"):
        answer = client.get(path, headers={"Accept": "text/html"})
        assert answer.status_code == 200
        assert "What changed in" not in answer.text


def test_a_past_explanation_that_says_more_than_is_allowed_is_withheld(
    client: TestClient, connection: psycopg.Connection
) -> None:
    now = time.time()
    row = explained(now - 7_100, "a/b")
    explanations.keep(connection, replace(row, told={**row.told, "texts": "full"}), 900)
    at = datetime.fromtimestamp(now - 7_000, UTC).isoformat().replace("+00:00", "Z")
    assert client.get(f"/drift/a/b?at={at}").json()["explanations"] == []
    page = client.get("/drift/a/b", headers={"Accept": "text/html"}).text
    assert "it says more than the settings allow now" in page


def test_exact_statistics_come_on_demand(client: TestClient, vectors: Vectors) -> None:
    fast = client.get("/drift/a/b?exact=true").json()["windows"]["fast"]
    expected = compare(vectors[:1_000], vectors[1_000:1_100])
    assert fast["exact"]["ks"] == expected.ks.tolist()
    assert fast["exact"]["wasserstein"] == expected.wasserstein.tolist()


def test_during_the_first_poll_exact_statistics_are_of_what_the_store_has(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Monitor, "has_followed", False)
    wait_for(lambda: client.get("/drift/a/b").status_code == 200, "a report")
    stored = client.get("/drift/a/b").json()
    told = client.get("/drift/a/b?exact=true").json()
    assert told["computed_at"] == stored["computed_at"]
    assert "exact" in told["windows"]["fast"]


def test_exact_statistics_sort_the_baseline_once_for_both_windows(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def noted(sample: Vectors) -> Vectors:
        sizes.append(len(sample))
        return sorted_columns(sample)

    monkeypatch.setattr("exporter.detector.exact.sorted_columns", noted)
    windows = client.get("/drift/a/b?exact=true").json()["windows"]
    assert all("exact" in each for each in windows.values())
    assert sizes == [1_000, 100, 100]


def problem(response: httpx2.Response, status: int) -> str:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    return str(response.json()["detail"])


def is_waited_for(connection: psycopg.Connection) -> bool:
    """Whether a session waits for a lock on the vectors of baselines."""
    cursor = connection.execute(
        "select from pg_locks where not granted and relation = 'baseline_embedding'::regclass"
        " and database = (select oid from pg_database where datname = current_database())"
    )
    return cursor.fetchone() is not None


def test_others_are_answered_while_exact_statistics_wait_for_a_database_that_hangs(
    client: TestClient,
    store: str,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # All that may query the store hang, so a page comes after this time.
    monkeypatch.setattr("exporter.http.fleet._PAGE_SECONDS", 2.0)
    answers = {"/metrics": 200, "/": 200, "/drift": 200, "/drift/a/b": 200, "/drift/none": 404}
    with connect(store) as other, ThreadPoolExecutor(41) as threads:
        with other.transaction():
            other.execute("lock table baseline_embedding")
            hanging = [threads.submit(client.get, "/drift/a/b?exact=true") for _ in range(40)]
            wait_for(lambda: is_waited_for(connection), "the requests")
            for path, status in answers.items():
                assert threads.submit(client.get, path).result(60).status_code == status
            assert not any(request.done() for request in hanging)
        assert {request.result(60).status_code for request in hanging} == {200}


def test_a_hanging_database_gives_503_with_retry_after(
    client: TestClient,
    store: str,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = "/drift/a/b?exact=true"
    monkeypatch.setattr("exporter.http.fleet.ANSWER_SECONDS", 0.2)
    with connect(store) as other, other.transaction():
        other.execute("lock table baseline_embedding")
        refused = client.get(path)
        assert "PostgreSQL" in problem(refused, 503)
        assert refused.headers["Retry-After"]
        wait_for(lambda: not is_waited_for(connection), "the end of what nobody waits for")
    monkeypatch.undo()
    assert client.get(path).status_code == 200


def test_an_answer_that_is_computed_for_too_long_is_not_blamed_on_postgresql_alone(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.http.fleet.ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(reporting, "exact", lambda _: time.sleep(1))
    refused = client.get("/drift/a/b?exact=true")
    told = "no answer within 0.2 s: PostgreSQL is slow, or there is much to compute"
    assert problem(refused, 503) == told
    assert refused.json()["title"] == "Answer took too long"
    assert refused.headers["Retry-After"]


def test_what_cannot_be_answered_says_why(client: TestClient) -> None:
    assert "GET /drift lists" in problem(client.get("/drift/none"), 404)
    assert "allowed are true and false" in problem(client.get("/drift/a/b?exact=x"), 400)
    assert problem(client.post("/drift/a/b"), 405)


def test_models_are_listed_with_their_states(client: TestClient) -> None:
    [model] = client.get("/drift").json()["models"]
    assert model["model_name"] == "a/b"
    assert model["windows"]["fast"]["state"] == "ok"
    assert model["windows"]["fast"]["score"] >= 0


def test_metrics_are_served_without_created_series(client: TestClient) -> None:
    page = client.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'embedding_drift_score{model_name="a/b",window="fast"}' in page.text
    assert "_created" not in page.text
    assert client.post("/metrics").status_code == 405


def test_openmetrics_and_plain_are_negotiated_and_zipped(client: TestClient) -> None:
    accept = "application/openmetrics-text; version=1.0.0"
    page = client.get("/metrics", headers={"Accept": accept})
    assert page.headers["content-type"].startswith("application/openmetrics-text")
    assert page.text.endswith("# EOF\n")
    assert page.headers["content-encoding"] == "gzip"
    plain = client.get("/metrics", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers


def test_the_landing_page_shows_every_model(client: TestClient) -> None:
    page = client.get("/").text
    assert '<a href="/drift/a%2Fb">a/b</a>' in page
    assert '<span class="word quiet">quiet</span>' in page


BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def test_a_browser_gets_a_page_and_a_program_the_report(client: TestClient) -> None:
    page = client.get("/drift/a/b", headers=BROWSER)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1>a/b</h1>" in page.text
    assert "embedding-drift baseline pin a/b" in page.text
    for accept in ("application/json", "*/*", "text/csv"):
        answer = client.get("/drift/a/b", headers={"Accept": accept})
        assert answer.headers["content-type"] == "application/json"
    assert page.headers["vary"] == answer.headers["vary"] == "Accept"


def test_the_pages_load_only_the_style_sheet_of_the_service(client: TestClient) -> None:
    for path in ("/", "/drift/a/b", "/runbook"):
        page = client.get(path, headers=BROWSER)
        loaded = re.findall(r'(?:src|<link[^>]* href)="([^"]*)"', page.text)
        assert [each.partition("?")[0] for each in loaded] == ["data:,", "/style.css"]
        assert "style-src 'self'" in page.headers["content-security-policy"]
        assert " style=" not in page.text
    assert client.get("/style.css").headers["content-type"].startswith("text/css")


def test_a_page_shows_the_history_up_to_a_past_time(
    client: TestClient, connection: psycopg.Connection
) -> None:
    past = time.time() - 3_600
    row = HistoryRow("a/b", "fast", "ok", 500, 1, 42.0, 0.4, 0.3, 0.5)
    history.fill(connection, [(past, row)])
    page = client.get(
        f"/drift/a/b?at={datetime.fromtimestamp(past + 60, UTC):%FT%TZ}", headers=BROWSER
    )
    assert "This is the state at" in page.text
    assert "at least 30% of its 500 vectors" in page.text
    assert 'aria-label="Score: highest 42.0"' in page.text


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/?state=odd", "state is 'odd'; allowed are model changed,"),
        ("/?page=0", "page is '0'; allowed are whole numbers from 1 to 999999"),
        ("/drift/a/b?range=2h", "range is '2h'; allowed are 1h, 6h,"),
        ("/drift/a/b?at=noon", "at: 'noon' is not a time as in RFC 3339"),
    ],
)
def test_what_a_page_cannot_show_is_named(client: TestClient, path: str, named: str) -> None:
    assert named in problem(client.get(path, headers=BROWSER), 400)


def test_the_runbook_has_a_heading_for_links_to_point_at(client: TestClient) -> None:
    assert '<h2 id="embeddingdriftdetected">' in client.get("/runbook").text


def test_the_history_of_a_window_comes_newest_first(
    client: TestClient, connection: psycopg.Connection
) -> None:
    rows = [
        HistoryRow("a/b", "slow", "ok", 300, 1, 0.5, 0.1, 0.05, 0.15, 0.9, 1.0, {"mean": 0.5}),
        HistoryRow("a/b", "slow", "too_few_vectors", 3, 1),
    ]
    # Later than the checks that the service itself records.
    start = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
    history.fill(connection, [(start + n, row) for n, row in enumerate(rows)])
    found = client.get("/drift/a/b/history?newest=2").json()
    assert (found["model_name"], found["window"]) == ("a/b", "slow")
    nothing = dict.fromkeys(["score", "magnitude", "magnitude_lower", "magnitude_upper"])
    assert found["checks"] == [
        {
            "computed_at": "2100-01-01T00:00:01Z",
            "state": "too_few_vectors",
            "vectors": 3,
            "baseline_version": 1,
            **nothing,
            "cosine_similarity": None,
            "norm": None,
            "components": None,
        },
        {
            "computed_at": "2100-01-01T00:00:00Z",
            "state": "ok",
            "vectors": 300,
            "baseline_version": 1,
            "score": 0.5,
            "magnitude": 0.1,
            "magnitude_lower": 0.05,
            "magnitude_upper": 0.15,
            "cosine_similarity": 0.9,
            "norm": 1.0,
            "components": {"mean": 0.5},
        },
    ]
    fast = client.get("/drift/a/b/history?window=fast").json()
    assert {check["state"] for check in fast["checks"]} <= {"ok"}


def test_the_newest_vectors_come_with_their_novelty(
    client: TestClient, store: str, vectors: Vectors
) -> None:
    async def fill() -> None:
        async with await AsyncConnection.connect(store, autocommit=True) as own:
            batch = Batch("a/b", vectors[:1] + 30, ["x"], [b'{"text": "new"}'], [1.5])
            await insert(own, [batch], 10)

    asyncio.run(fill())
    found = client.get("/models/a/b/vectors?newest=41&window=slow").json()
    assert (found["model_name"], found["window"], found["baseline_version"]) == ("a/b", "slow", 1)
    first, *others = found["vectors"]
    assert [each["seq"] for each in found["vectors"]] == list(range(1_101, 1_060, -1))
    assert (first["id"], first["metadata"]) == ("x", {"text": "new"})
    assert first["embedded_at"] == "1970-01-01T00:00:01.500000Z"
    assert first["novelty"] > 0.99
    assert 0.3 < np.median([each["novelty"] for each in others]) < 0.8
    assert len(client.get("/models/a/b/vectors").json()["vectors"]) == 50


def test_without_a_baseline_vectors_have_no_novelty(
    client: TestClient, store: str, vectors: Vectors
) -> None:
    async def fill() -> None:
        async with await AsyncConnection.connect(store, autocommit=True) as own:
            await insert(own, [Batch("young", vectors[:2])], 10)

    asyncio.run(fill())
    wait_for(lambda: "young" in client.get("/drift").text, "the model")
    found = client.get("/models/young/vectors").json()
    assert found["baseline_version"] is None
    assert [each["novelty"] for each in found["vectors"]] == [None, None]


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/models/none/vectors", 404, "there is no model 'none'"),
        ("/models/a/b/vectors?newest=1001", 400, "whole numbers from 1 to 1000"),
        ("/models/a/b/vectors?window=x", 400, "window is 'x'; allowed are fast and slow"),
        ("/drift/none/history", 404, "there is no model 'none'"),
        ("/drift/a/b/history?window=both", 400, "window is 'both'; allowed are fast and slow"),
        ("/drift/a/b/history?newest=0", 400, "allowed are whole numbers from 1 to 10000"),
        ("/drift/a/b?pretty=yes", 400, "allowed are true and false"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused_with_the_reason(
    client: TestClient, path: str, status: int, reason: str
) -> None:
    assert reason in problem(client.get(path), status)


def test_a_model_may_be_called_history(client: TestClient, store: str, vectors: Vectors) -> None:
    async def fill() -> None:
        async with await AsyncConnection.connect(store, autocommit=True) as own:
            await insert(own, [Batch("a/b/history", vectors[:5])], 10)

    # The only check, which comes soon, would be in the history of the model.
    wait_for(lambda: "quality" in client.get("/drift/a/b").json()["windows"]["fast"], "the check")
    asyncio.run(fill())
    wait_for(lambda: "a/b/history" in client.get("/drift").text, "the model")
    assert client.get("/drift/a/b/history").json()["model_name"] == "a/b/history"
    assert client.get("/drift/a/b/history/history").json()["checks"] == []


def test_every_get_that_answers_with_json_indents_it_on_request(client: TestClient) -> None:
    described = client.get("/openapi.json").json()["paths"]
    promised = {
        path
        for path, operations in described.items()
        if any(each["name"] == "pretty" for each in operations.get("get", {}).get("parameters", ()))
    }
    answering = {
        path
        for path, operations in described.items()
        if "application/json"
        in operations.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
    }
    assert promised == answering >= {"/drift", "/models/{model_name}/vectors"}
    for path in promised:
        own = path.replace("{model_name}", "a/b")
        for query in ("pretty", "pretty=true"):
            pretty = client.get(f"{own}?{query}", headers={"Accept": "application/json"}).text
            assert pretty.startswith('{\n  "')
            assert pretty.endswith("}\n")
        for dense in (own, f"{own}?pretty=false"):
            assert "\n" not in client.get(dense, headers={"Accept": "application/json"}).text
