"""``POST /canaries`` over HTTP, on a real PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import psycopg
import pytest
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from ingest.http.app import Ingest
from ingest.http.canaries import MAX_CANARIES
from ingest.pipeline.pipeline import Pipeline
from ingest.runtime.auth import tokens
from ingest.runtime.auth.guard import Guard
from ingest.runtime.auth.security import Protection, Security
from ingest.runtime.http import application
from ingest.runtime.settings.configuration import load
from ingest.runtime.settings.reload import LiveSettings
from tests.ingest.formats.bodies import arrow_stream, parquet_file, table_of

VECTORS = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
IDS = ["canary:own:a", "canary:own:b", "canary:own:c"]
WRITER = {"Authorization": "Bearer secret"}


@pytest.fixture
def client(store: str) -> Iterator[TestClient]:
    """A client of a service where it may write to model m only."""
    registry, live = CollectorRegistry(), LiveSettings(load)
    half = Ingest(Pipeline(store, live.settings, registry), live.settings)
    token = tokens.Token(name="t", sha256=tokens.digest("secret"), scopes=["write:m", "metrics"])
    protection = Protection(Security(Guard({}, [token])))
    app = application.application(registry, live, half, protection=protection)
    with TestClient(app, raise_server_exceptions=False, headers=WRITER) as client:
        yield client


def post(client: TestClient, headers: dict[str, str] | None = None, **changes: Any) -> Any:
    body = {"model_name": "m", "embeddings": VECTORS, "ids": IDS} | changes
    return client.post("/canaries", json=body, headers=headers)


def refused(response: httpx2.Response, status: int) -> str:
    """Check that a response is a problem, and return its detail."""
    body = response.json()
    assert response.status_code == body["status"] == status
    return str(body["detail"])


def test_the_answer_says_how_far_the_canaries_moved(client: TestClient) -> None:
    first = post(client)
    assert first.status_code == 201
    assert first.json() == {
        "model_name": "m",
        "set": "own",
        "canaries": 3,
        "reference": True,
        "median_distance": 0,
        "max_distance": 0,
    }
    second = post(client, embeddings=[[1.0, 0.0], [0.0, 2.0], [1.0, -1.0]]).json()
    assert not second["reference"]
    assert (second["median_distance"], second["max_distance"]) == (0, pytest.approx(1))


def test_canaries_are_paired_by_id(client: TestClient) -> None:
    post(client)
    again = post(client, ids=IDS[::-1], embeddings=VECTORS[::-1]).json()
    assert again["max_distance"] == pytest.approx(0, abs=1e-15)


def test_canaries_are_no_vectors_of_the_model(
    client: TestClient, connection: psycopg.Connection
) -> None:
    post(client)
    for table in ("embedding", "embedding_id", "baseline_embedding"):
        assert connection.execute(f"select from {table}".encode()).fetchall() == []
    assert connection.execute("select last_seq from model").fetchall() == [(0,)]


def test_a_repeated_request_gets_the_first_answer(client: TestClient) -> None:
    key = {"Idempotency-Key": "k"}
    first, second = post(client, key), post(client, key)
    assert second.json() == first.json()
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert "'k'" in refused(post(client, key, embeddings=VECTORS[::-1]), 422)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": None}, "canaries need ids; allowed are canary:SET:TEXT"),
        ({"ids": [*IDS[:2], None]}, "/ids/2: None is not the id of a canary"),
        ({"ids": [*IDS[:2], "c"]}, "/ids/2: 'c' is not the id of a canary; allowed are canary:SET"),
        ({"ids": [*IDS[:2], "canary:own:"]}, "/ids/2"),
        ({"ids": [*IDS[:2], "canary:other:c"]}, "one set; here are other, own"),
        ({"ids": [*IDS[:2], IDS[0]]}, "/ids/2"),
        ({"metadata": [None, {"text": "hush"}, None]}, "/metadata/1: is not kept"),
        ({"embeddings": [*VECTORS[:2], [1.0, 1e39]]}, "/embeddings/2/1"),
    ],
)
def test_what_is_wrong_is_named(client: TestClient, changes: Any, message: str) -> None:
    assert message in refused(post(client, **changes), 400)
    assert post(client).json()["reference"]


FIRST, SECOND = [1.0, 2.0], [3.0, 4.0]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ({"embedding": SECOND, "id": "canary:own:a"}, "application/json"),
        ({"embeddings": [FIRST, SECOND], "ids": ["a", "canary:"]}, "application/json"),
        (arrow_stream, "application/vnd.apache.arrow.stream"),
        (parquet_file, "application/vnd.apache.parquet"),
    ],
    ids=["one", "several", "arrow", "parquet"],
)
def test_no_other_vector_has_an_id_of_canaries(
    client: TestClient, body: Any, content_type: str
) -> None:
    if isinstance(body, dict):
        content = json.dumps(body).encode()
    else:
        vectors = np.array([FIRST, SECOND], np.float32)
        content = body(table_of(vectors, id=["a", "canary:own:b"]))
    headers = {"Content-Type": content_type, "X-Model-Name": "m"}
    detail = refused(client.post("/embeddings", content=content, headers=headers), 400)
    assert detail.startswith(f"/ids/{0 if b'canary:own:a' in content else 1}: 'canary:")
    assert detail.endswith("begins with canary:, which is reserved for POST /canaries")


def test_a_set_has_a_limited_number_of_canaries(client: TestClient) -> None:
    ids = [f"canary:own:{n}" for n in range(MAX_CANARIES + 1)]
    many = post(client, ids=ids, embeddings=[[1.0, 2.0]] * len(ids))
    assert f"at most {MAX_CANARIES} are allowed" in refused(many, 413)


def test_canaries_of_another_dimension_are_refused(client: TestClient) -> None:
    vector = {"model_name": "m", "embedding": [1.0, 2.0]}
    assert client.post("/embeddings", json=vector).status_code == 201
    assert "dimension 2, not 3" in refused(post(client, embeddings=[[1.0, 2.0, 3.0]] * 3), 409)


def test_canaries_need_the_scope_of_vectors(client: TestClient) -> None:
    assert "write:other" in refused(post(client, model_name="other"), 403)
    nobody = {"Authorization": "Bearer wrong"}
    assert refused(post(client, nobody), 401)


def test_requests_are_counted_by_their_route(client: TestClient) -> None:
    post(client)
    post(client, ids=None)
    page = client.get("/metrics").text
    assert 'requests_total{code="201",route="/canaries"} 1.0' in page
    assert 'rejected_total{reason="PayloadError",route="/canaries"} 1.0' in page
    assert "ingest_vectors_total{" not in page
