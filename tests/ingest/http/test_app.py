"""The ingest half over HTTP, on a real PostgreSQL."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import numpy as np
import psycopg
import pytest
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from ingest.http.app import Ingest
from ingest.pipeline.pipeline import Pipeline
from ingest.runtime.http import application
from ingest.runtime.settings.configuration import load
from ingest.runtime.settings.reload import LiveSettings
from ingest.store.connection import connect
from tests.ingest.formats.bodies import arrow_stream, parquet_file, table_of
from tests.service import wait_for, waits_for_a_lock

VECTOR = [0.5, -1.0, 2.0]
JSON = "application/json"


@pytest.fixture
def chosen() -> dict[str, Any]:
    """Settings by their dotted keys; a reload reads them anew."""
    return {"ingest.max_body_bytes": 25_000, "ingest.max_models": 3}


@pytest.fixture
def client(store: str, chosen: dict[str, Any]) -> Iterator[TestClient]:
    registry = CollectorRegistry()
    live = LiveSettings(lambda: load(None, None, chosen))
    app = application.application(
        registry, live, Ingest(Pipeline(store, live.settings, registry), live.settings)
    )
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def stored(connection: psycopg.Connection) -> Callable[[], list[list[float]]]:
    """What the store holds, in the order of its numbers."""

    def stored() -> list[list[float]]:
        rows = connection.execute(
            "select embedding::real[] from embedding order by model_name, seq"
        )
        return [vector for (vector,) in rows]

    return stored


def problem(response: httpx2.Response, status: int) -> dict[str, Any]:
    """Check that a response is a problem, and return it."""
    body: dict[str, Any] = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert response.status_code == body["status"] == status
    assert {"type", "title", "detail"} <= set(body)
    return body


def test_the_documented_request_is_stored_when_it_is_answered(
    client: TestClient, connection: psycopg.Connection
) -> None:
    body = {
        "model_name": "sentence-transformer",
        "embedding": VECTOR,
        "metadata": {"text": "hello", "timestamp": 1703980800},
    }
    response = client.post("/embeddings", json=body)
    assert response.status_code == 201
    assert response.json() == {
        "model_name": "sentence-transformer",
        "stored": 1,
        "revisions": 0,
        "duplicates": 0,
        "sampled_out": 0,
    }
    assert connection.execute(
        "select model_name, seq, metadata, extract(epoch from embedded_at)::int,"
        " embedding::real[] from embedding"
    ).fetchall() == [("sentence-transformer", 1, body["metadata"], 1703980800, VECTOR)]


def npy(vectors: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, vectors)
    return file.getvalue()


ROWS = np.array([VECTOR, [1, 2, 3]], dtype="<f4")
RAW_HEADERS = {
    "Content-Type": "application/octet-stream",
    "X-Model-Name": "m",
    "X-Dimension": "3",
}


@pytest.mark.parametrize(
    "request_",
    [
        {"json": {"model_name": "m", "embeddings": ROWS.tolist()}},
        {
            "json": {
                "model_name": "m",
                "embeddings": [base64.b64encode(row.tobytes()).decode() for row in ROWS],
            }
        },
        {
            "content": ROWS.tobytes(),
            "headers": RAW_HEADERS,
        },
        {
            "content": ROWS.tobytes(),
            "headers": {"Content-Type": "application/octet-stream"},
            "params": {"model_name": "m", "dimension": "3"},
        },
        {
            "content": npy(ROWS.astype(np.float64)),
            "headers": {"Content-Type": "application/x-npy", "X-Model-Name": "m"},
        },
        {
            "content": ROWS.astype("<f2").tobytes(),
            "headers": RAW_HEADERS | {"X-Dtype": "float16"},
        },
        {
            "content": arrow_stream(table_of(ROWS)),
            "headers": {"Content-Type": "application/vnd.apache.arrow.stream"},
            "params": {"model_name": "m"},
        },
        {
            "content": parquet_file(table_of(ROWS, model_name=["m", "m"])),
            "headers": {"Content-Type": "application/vnd.apache.parquet"},
        },
        {
            "json": {
                "object": "list",
                "data": [{"object": "embedding", "embedding": row} for row in ROWS.tolist()],
                "model": "@cf/baai/bge",
            }
        },
        {"json": ROWS.tolist(), "headers": {"X-Model-Name": "/models/\u6a21\u578b".encode()}},
    ],
    ids=[
        *("numbers", "base64", "raw with headers", "raw with query", "npy", "float16", "arrow"),
        *("parquet", "answer of OpenAI", "answer of TEI"),
    ],
)
def test_every_format_stores_the_same_vectors(
    client: TestClient, stored: Callable[[], list[list[float]]], request_: dict[str, Any]
) -> None:
    response = client.post("/embeddings", **request_)
    assert response.status_code == 201, response.text
    assert stored() == ROWS.tolist()


def test_a_vector_sent_twice_under_its_id_is_stored_once(
    client: TestClient, stored: Callable[[], list[list[float]]]
) -> None:
    body = {"model_name": "m", "embedding": VECTOR, "id": "a"}
    assert client.post("/embeddings", json=body).json()["stored"] == 1
    again = client.post("/embeddings", json=body)
    assert again.json() == {
        "model_name": "m",
        "stored": 0,
        "revisions": 0,
        "duplicates": 1,
        "sampled_out": 0,
    }
    assert stored() == [VECTOR]


def revise(client: TestClient, **headers: str) -> httpx2.Response:
    """Send VECTOR as "a" and then others as "a" and "b"."""
    client.post("/embeddings", json={"model_name": "m", "embedding": VECTOR, "id": "a"})
    body = {"model_name": "m", "embeddings": [[9, 8, 7], [4, 5, 6]], "ids": ["a", "b"]}
    return client.post("/embeddings", json=body, headers=headers)


def test_another_vector_of_a_stored_id_is_stored_and_counted_as_a_revision(
    client: TestClient, stored: Callable[[], list[list[float]]]
) -> None:
    assert revise(client).json() == {
        "model_name": "m",
        "stored": 2,
        "revisions": 1,
        "duplicates": 0,
        "sampled_out": 0,
    }
    assert stored() == [VECTOR, [9, 8, 7], [4, 5, 6]]
    page = client.get("/metrics").text
    assert 'embedding_drift_ingest_revisions_total{model_name="m"} 1.0' in page
    assert 'embedding_drift_ingest_vectors_total{model_name="m"} 3.0' in page


def test_a_vector_is_found_by_the_integer_that_it_was_sent_with(client: TestClient) -> None:
    sent = {"model_name": "m", "embedding": VECTOR, "id": 7}
    assert client.post("/embeddings", json=sent).is_success
    [match] = client.post("/search", json={"model_name": "m", "id": 7}).json()["matches"]
    assert match["id"] == "7"


@pytest.mark.parametrize(("levels", "is_shown"), [(600, True), (2_000, False)])
def test_a_search_is_answered_whatever_metadata_earlier_releases_stored(
    levels: int, is_shown: bool, client: TestClient, connection: psycopg.Connection
) -> None:
    sent = {"model_name": "m", "embedding": VECTOR, "id": 7}
    assert client.post("/embeddings", json=sent).is_success
    deep = '{"a":' * levels + "1" + "}" * levels
    connection.execute("update embedding set metadata = %s", [deep])
    [match] = client.post("/search", json={"model_name": "m", "id": 7}).json()["matches"]
    assert (match["metadata"] is not None) == is_shown


def test_a_search_by_id_finds_the_newest_vector(client: TestClient) -> None:
    revise(client)
    found = client.post("/search", json={"model_name": "m", "id": "a", "k": 1}).json()
    assert [(match["seq"], match["id"]) for match in found["matches"]] == [(2, "a")]


def test_a_repeated_request_with_revisions_gets_the_first_answer(client: TestClient) -> None:
    key = {"Idempotency-Key": "k"}
    first = revise(client, **key)
    again = revise(client, **key)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (again.json(), again.json()["revisions"]) == (first.json(), 1)
    page = client.get("/metrics").text
    # "a" went back to VECTOR between the two.
    assert 'embedding_drift_ingest_revisions_total{model_name="m"} 2.0' in page


def test_ids_of_events_are_stored_once_also_after_a_reload(
    client: TestClient, chosen: dict[str, Any], stored: Callable[[], list[list[float]]]
) -> None:
    chosen["ingest.ids"] = "once"
    assert client.post("/-/reload").is_success
    said = revise(client).json()
    assert (said["stored"], said["revisions"], said["duplicates"]) == (1, 0, 1)
    assert stored() == [VECTOR, [4, 5, 6]]


def test_a_request_repeated_with_its_key_gets_the_first_answer(
    client: TestClient, stored: Callable[[], list[list[float]]]
) -> None:
    def send(vector: list[float]) -> httpx2.Response:
        body = {"model_name": "m", "embedding": vector}
        return client.post("/embeddings", json=body, headers={"Idempotency-Key": "k"})

    first, again, other = send(VECTOR), send(VECTOR), send([1, 2, 3])
    assert again.json() == first.json()
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert "another body" in problem(other, 422)["detail"]
    assert stored() == [VECTOR]


def test_a_batch_with_one_bad_vector_is_rejected_whole(
    client: TestClient, stored: Callable[[], list[list[float]]]
) -> None:
    body = {"model_name": "m", "embeddings": [VECTOR, [1, 2], VECTOR]}
    said = problem(client.post("/embeddings", json=body), 400)
    assert [e["index"] for e in said["errors"]] == [1]
    assert stored() == []


def test_a_wrong_dimension_is_refused_with_both_dimensions(client: TestClient) -> None:
    client.post("/embeddings", json={"model_name": "m", "embedding": VECTOR})
    response = client.post("/embeddings", json={"model_name": "m", "embedding": [1.0]})
    assert "dimension 3; these have 1" in problem(response, 409)["detail"]


def test_a_long_body_is_refused_by_its_declared_length_or_while_it_arrives(
    client: TestClient,
) -> None:
    def chunks() -> Iterator[bytes]:
        yield from [b"x" * 1_000] * 30

    for content in (b"x" * 30_000, chunks()):
        response = client.post("/embeddings", content=content)
        assert "ingest.max_body_bytes" in problem(response, 413)["detail"]


def test_the_answer_to_an_unknown_content_type_lists_the_known_ones(client: TestClient) -> None:
    response = client.post("/embeddings", content=b"x", headers={"Content-Type": "text/csv"})
    assert "application/json" in problem(response, 415)["detail"]


@pytest.mark.parametrize("path", ["/embeddings", "/search"])
@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Content-Encoding", "br"),
        ("Content-Encoding", "identity, br"),
        ("Transfer-Encoding", "gzip, chunked"),
    ],
)
def test_a_body_in_another_encoding_is_refused(
    client: TestClient,
    stored: Callable[[], list[list[float]]],
    path: str,
    header: str,
    value: str,
) -> None:
    headers = RAW_HEADERS if path == "/embeddings" else {"Content-Type": JSON}
    response = client.post(path, content=ROWS.tobytes(), headers=headers | {header: value})
    assert f"{header} {value} is not supported" in problem(response, 415)["detail"]
    assert stored() == []


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
def test_a_compressed_body_is_stored_and_a_bomb_is_not(
    client: TestClient,
    stored: Callable[[], list[list[float]]],
    name: str,
    pack: Callable[[bytes], bytes],
) -> None:
    headers = RAW_HEADERS | {"Content-Encoding": name}
    bomb = client.post("/embeddings", content=pack(bytes(5_000_000)), headers=headers)
    assert "decompressed, exceeds" in problem(bomb, 413)["detail"]
    assert stored() == []
    assert client.post("/embeddings", content=pack(ROWS.tobytes()), headers=headers).is_success
    assert stored() == ROWS.tolist()


def test_an_identity_encoding_is_accepted(client: TestClient) -> None:
    headers = RAW_HEADERS | {"Content-Encoding": "Identity"}
    assert client.post("/embeddings", content=ROWS.tobytes(), headers=headers).is_success


def test_one_model_too_many_is_refused(client: TestClient) -> None:
    for name in ("a", "b", "c"):
        client.post("/embeddings", json={"model_name": name, "embedding": VECTOR})
    response = client.post("/embeddings", json={"model_name": "d", "embedding": VECTOR})
    assert "ingest.max_models" in problem(response, 403)["detail"]


def test_other_methods_and_paths_are_problems_too(client: TestClient) -> None:
    assert problem(client.get("/embeddings"), 405)
    assert client.get("/embeddings").headers["allow"] == "POST"
    assert problem(client.post("/nowhere"), 404)


@pytest.mark.parametrize(("method", "path"), [("GET", "/metrics/"), ("POST", "/embeddings/")])
def test_a_trailing_slash_is_not_found_and_not_redirected(
    client: TestClient, method: str, path: str
) -> None:
    headers = {"Host": "evil.example"}
    response = client.request(method, path, headers=headers, follow_redirects=False)
    assert problem(response, 404)
    assert "evil.example" not in response.text + str(response.headers)


def test_a_value_only_postgresql_refuses_is_the_clients_error_and_the_next_request_is_stored(
    client: TestClient, stored: Callable[[], list[list[float]]]
) -> None:
    """A jsonb number beyond what numeric holds passes every earlier check."""
    huge = b'{"model_name": "m", "embedding": [1, 2, 3], "metadata": {"n": 1e200000}}'
    response = client.post(
        "/embeddings", content=huge, headers={"Content-Type": "application/json"}
    )
    assert 400 <= response.status_code < 500, response.text
    assert stored() == []
    assert client.post("/embeddings", json={"model_name": "m", "embedding": VECTOR}).is_success
    assert stored() == [VECTOR]


def test_requests_to_store_vectors_are_counted_from_the_first_scrape(client: TestClient) -> None:
    page = client.get("/metrics").text
    assert 'embedding_drift_ingest_requests_total{code="201",route="/embeddings"} 0.0' in page


def test_requests_vectors_and_refusals_are_counted(client: TestClient) -> None:
    client.post("/embeddings", json={"model_name": "m", "embeddings": [VECTOR, VECTOR]})
    client.post("/embeddings", content=b"{", headers={"Content-Type": "application/json"})
    page = client.get("/metrics").text
    assert 'embedding_drift_ingest_vectors_total{model_name="m"} 2.0' in page
    assert 'embedding_drift_ingest_requests_total{code="201",route="/embeddings"} 1.0' in page
    assert 'embedding_drift_ingest_requests_total{code="400",route="/embeddings"} 1.0' in page
    assert (
        'embedding_drift_ingest_rejected_total{reason="PayloadError",route="/embeddings"} 1.0'
        in page
    )
    assert "embedding_drift_ingest_queue_bytes 0.0" in page
    assert "embedding_drift_ingest_commit_vectors_sum 2.0" in page


def lost(client: TestClient) -> dict[str, float]:
    """Samples of the lost vectors on the page, by reason."""
    page = client.get("/metrics").text
    name = "embedding_drift_client_lost_vectors_total"
    samples = re.findall(rf'^{name}{{model_name="m",reason="(\w+)"}} (\S+)$', page, re.MULTILINE)
    assert page.count(f"{name}{{") == len(samples)
    return {reason: float(value) for reason, value in samples}


def test_losses_that_a_client_reports_are_counted_with_its_vectors(client: TestClient) -> None:
    body = {"model_name": "m", "embedding": VECTOR}
    assert lost(client) == {}
    assert client.post("/embeddings", json=body).is_success
    assert lost(client) == {"dropped": 0, "failed": 0}
    for _ in range(2):
        headers = {"X-Client-Lost": "dropped=12, failed=3"}
        assert client.post("/embeddings", json=body, headers=headers).is_success
    assert lost(client) == {"dropped": 24, "failed": 6}


def test_losses_are_counted_once_for_an_idempotency_key(client: TestClient) -> None:
    body = {"model_name": "m", "embedding": VECTOR}
    headers = {"X-Client-Lost": "dropped=12, failed=3", "Idempotency-Key": "k"}
    for _ in range(3):
        assert client.post("/embeddings", json=body, headers=headers).is_success
    assert lost(client) == {"dropped": 12, "failed": 3}


def test_losses_of_a_request_that_is_not_stored_are_not_counted(client: TestClient) -> None:
    headers = {"X-Client-Lost": "dropped=12, failed=3"}
    body = {"model_name": "m", "embedding": []}
    assert problem(client.post("/embeddings", json=body, headers=headers), 400)
    assert lost(client) == {}


def test_a_wrong_report_of_losses_is_refused_and_nothing_stored(
    client: TestClient, stored: Callable[[], list[list[float]]]
) -> None:
    body = {"model_name": "m", "embedding": VECTOR}
    headers = {"X-Client-Lost": "dropped=many"}
    said = problem(client.post("/embeddings", json=body, headers=headers), 400)
    assert said["errors"][0]["pointer"] == "X-Client-Lost"
    assert "'dropped=N, failed=N'" in said["detail"]
    assert stored() == []


def test_vectors_left_out_by_sampling_are_reported_counted_and_not_stored(
    client: TestClient, chosen: dict[str, Any], stored: Callable[[], list[list[float]]]
) -> None:
    chosen["ingest.sample_ratio"] = 0.5
    assert client.post("/-/reload").is_success
    body = {
        "model_name": "m",
        "embeddings": [[float(n)] * 3 for n in range(200)],
        "ids": [f"v{n}" for n in range(200)],
    }
    headers = {"Idempotency-Key": "k"}
    first = client.post("/embeddings", json=body, headers=headers).json()
    assert 50 < first["stored"] < 150
    assert first["stored"] + first["sampled_out"] == 200
    assert len(stored()) == first["stored"]

    assert client.post("/embeddings", json=body, headers=headers).json() == first
    again = client.post("/embeddings", json=body).json()
    assert (again["stored"], again["duplicates"]) == (0, first["stored"])
    page = client.get("/metrics").text
    for name, value in (
        ("vectors", first["stored"]),
        ("duplicates", first["stored"]),
        ("sampled_out", 2 * first["sampled_out"]),
    ):
        assert f'embedding_drift_ingest_{name}_total{{model_name="m"}} {value}.0' in page


def test_a_batch_left_out_by_sampling_is_still_checked(
    client: TestClient, chosen: dict[str, Any], stored: Callable[[], list[list[float]]]
) -> None:
    client.post("/embeddings", json={"model_name": "m", "embedding": VECTOR})
    chosen["ingest.sample_ratio"] = 1e-9
    assert client.post("/-/reload").is_success
    answer = client.post("/embeddings", json={"model_name": "m", "embedding": VECTOR}).json()
    assert (answer["stored"], answer["sampled_out"]) == (0, 1)
    assert problem(client.post("/embeddings", json={"model_name": "m", "embedding": [1.0]}), 409)
    assert stored() == [VECTOR]


def test_a_long_body_is_parsed_in_a_thread_with_the_same_result(
    client: TestClient, chosen: dict[str, Any], stored: Callable[[], list[list[float]]]
) -> None:
    chosen["ingest.max_body_bytes"] = 10_000_000
    assert client.post("/-/reload").is_success
    vectors = np.random.default_rng(0).normal(size=(5_000, 20)).astype(np.float32)
    content = json.dumps({"model_name": "m", "embeddings": vectors.tolist()}).encode()
    assert len(content) > 1_048_576
    sent = client.post("/embeddings", content=content, headers={"Content-Type": JSON})
    assert sent.json()["stored"] == 5_000
    assert np.array_equal(np.array(stored(), np.float32), vectors)
    broken = client.post("/embeddings", content=content[:-9], headers={"Content-Type": JSON})
    assert problem(broken, 400)["detail"].startswith("the body is not valid JSON")


def test_healthy_and_ready_answer(client: TestClient) -> None:
    assert client.get("/-/healthy").text == "healthy\n"
    assert client.get("/-/ready").text == "ready\n"


def nearest(query: np.ndarray, among: np.ndarray, k: int) -> list[int]:
    """Brute force: positions of the k most similar by cosine."""
    similarity = among @ query / (np.linalg.norm(among, axis=1) * np.linalg.norm(query))
    found: list[int] = np.argsort(-similarity, kind="stable")[:k].tolist()
    return found


def test_search_over_a_window_finds_what_brute_force_finds(client: TestClient) -> None:
    vectors = np.random.default_rng(1).normal(size=(300, 3)).astype(np.float32)
    ids = [f"v{n}" for n in range(300)]
    encoded = [base64.b64encode(vector.tobytes()).decode() for vector in vectors]
    body = {"model_name": "m", "embeddings": encoded, "ids": ids}
    assert client.post("/embeddings", json=body).is_success
    expected = [f"v{n}" for n in nearest(vectors[7], vectors, 5)]
    for by in ({"embedding": vectors[7].tolist()}, {"id": "v7"}, {"seq": 8}):
        found = client.post("/search", json={"model_name": "m", "k": 5, "scope": "fast", **by})
        assert [match["id"] for match in found.json()["matches"]] == expected
        assert found.json()["matches"][0]["similarity"] == pytest.approx(1)


def test_the_answer_to_a_search_is_indented_on_request(client: TestClient) -> None:
    client.post("/embeddings", json={"model_name": "m", "embedding": VECTOR}).raise_for_status()
    wanted = {"model_name": "m", "seq": 1}
    dense, pretty = (client.post(f"/search{query}", json=wanted) for query in ("", "?pretty"))
    assert dense.json() == pretty.json()
    assert "\n" not in dense.text
    assert pretty.text.startswith('{\n  "model_name": "m"')


def test_a_search_is_limited_to_metadata(client: TestClient) -> None:
    for tenant in ("a", "b"):
        body = {"embeddings": [VECTOR] * 2, "metadata": [{"tenant": tenant}] * 2}
        assert client.post("/embeddings", json={"model_name": "m", **body}).is_success
    wanted = {"model_name": "m", "seq": 1, "filter": {"tenant": "b"}}
    found = client.post("/search", json=wanted).json()
    assert [match["seq"] for match in found["matches"]] == [3, 4]


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        ({"model_name": "none", "embedding": VECTOR}, 404, "there is no model 'none'"),
        ({"model_name": "m", "embedding": [1.0]}, 409, "dimension 3, not 1"),
        ({"model_name": "m", "id": "none"}, 404, "no vector with id 'none'"),
        ({"model_name": "m", "seq": 9}, 404, "no vector with seq 9"),
        ({"model_name": "m", "id": "a\0"}, 400, "control character"),
        ({"model_name": "m"}, 400, "one of embedding, id and seq"),
        ({"model_name": "m", "embedding": VECTOR, "id": "x"}, 400, "one of embedding, id and seq"),
        ({"model_name": "m", "embedding": VECTOR, "k": 0}, 400, "k"),
        ({"model_name": "m", "embedding": VECTOR, "scope": "all"}, 400, "scope"),
        ({"model_name": "m", "embedding": ["x"]}, 400, "embedding"),
        ({"model_name": "m", "embedding": VECTOR, "scope": "baseline"}, 404, "no baseline"),
        ({"model_name": "m", "embedding": VECTOR, "K": 3}, 400, "K"),
    ],
)
def test_an_impossible_search_is_refused_with_the_reason(
    client: TestClient, body: dict[str, Any], status: int, part: str
) -> None:
    client.post("/embeddings", json={"model_name": "m", "embedding": VECTOR})
    said = problem(client.post("/search", json=body), status)
    assert part in json.dumps(said)


SHORT: dict[str, dict[str, Any]] = {
    "int8": {
        "content": np.ones((100, 100), np.int8).tobytes(),
        "headers": RAW_HEADERS | {"X-Dimension": "100", "X-Dtype": "int8"},
    },
    "parquet": {
        "content": parquet_file(table_of(np.ones((50, 100), np.float32))),
        "headers": {"Content-Type": "application/vnd.apache.parquet", "X-Model-Name": "m"},
    },
}
COMES_OUT = {"int8": 40_000, "parquet": 20_000}
"""Bytes of the vectors in these bodies."""


def held(client: TestClient) -> float:
    """Return the bytes that are held for requests under way."""
    page = client.get("/metrics").text
    found = re.search(r"^embedding_drift_ingest_queue_bytes (\S+)$", page, re.MULTILINE)
    assert found is not None
    return float(found[1])


@pytest.mark.usefixtures("patient_writers")
@pytest.mark.parametrize("what", SHORT)
@pytest.mark.parametrize("most", [100_000, 30_000])
def test_all_that_came_out_of_a_short_body_is_held_until_it_is_stored(
    client: TestClient, chosen: dict[str, Any], store: str, what: str, most: int
) -> None:
    assert len(SHORT[what]["content"]) < COMES_OUT[what] / 2
    # Also a body that takes more than all may take together is stored, alone.
    chosen["ingest.max_queue_bytes"] = most
    assert client.post("/-/reload").is_success
    with connect(store) as other, ThreadPoolExecutor(1) as thread:
        with other.transaction():
            other.execute("lock table embedding")
            answer = thread.submit(client.post, "/embeddings", **SHORT[what])
            wait_for(lambda: held(client) == min(COMES_OUT[what], most), "the vectors of the body")
        assert answer.result(240).status_code == 201
    assert held(client) == 0


@pytest.mark.usefixtures("patient_writers")
def test_bodies_are_refused_while_what_came_out_of_others_takes_all_room(
    client: TestClient, chosen: dict[str, Any], store: str
) -> None:
    chosen["ingest.max_queue_bytes"] = 100_000
    assert client.post("/-/reload").is_success
    with connect(store) as other, ThreadPoolExecutor(2) as threads:
        with other.transaction():
            other.execute("lock table embedding")
            two = [threads.submit(client.post, "/embeddings", **SHORT["int8"]) for _ in range(2)]
            wait_for(lambda: held(client) == 2 * 40_000, "the vectors of two bodies")
            refused = client.post("/embeddings", **SHORT["int8"])
            assert "ingest.max_queue_bytes" in problem(refused, 429)["detail"]
            assert held(client) == 2 * 40_000
        assert [answer.result(240).status_code for answer in two] == [201, 201]


@pytest.mark.parametrize(
    ("by", "locked"),
    [
        ({"embedding": VECTOR}, "model"),
        ({"embedding": VECTOR}, "embedding"),
        ({"id": "a"}, "embedding_id"),
    ],
)
def test_a_search_that_takes_too_long_is_a_503_with_retry_after(
    client: TestClient,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
    by: dict[str, Any],
    locked: str,
) -> None:
    monkeypatch.setattr("ingest.http.searches._SEARCH_SECONDS", 1.0)
    client.post("/embeddings", json={"model_name": "m", "embedding": VECTOR, "id": "a"})

    def search() -> httpx2.Response:
        return client.post("/search", json={"model_name": "m", "scope": "fast", **by})

    with connect(store) as other, ThreadPoolExecutor(1) as thread:
        with other.transaction():
            other.execute(f"lock table {locked}".encode())
            refused = thread.submit(search).result(240)
        said = problem(refused, 503)
        assert said["title"] == "Store unavailable"
        assert said["detail"].startswith("no vectors were found within 1 s: PostgreSQL is slow")
        assert int(refused.headers["retry-after"]) > 0
        monkeypatch.setattr("ingest.http.searches._SEARCH_SECONDS", 240.0)
        assert [match["id"] for match in search().json()["matches"]] == ["a"]


@pytest.fixture
def few_connections(chosen: dict[str, Any]) -> None:
    chosen["database.pool_size"] = 3


def test_slow_searches_leave_connections_to_the_writer(
    few_connections: None, client: TestClient, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.http.searches._SEARCH_SECONDS", 240.0)
    vector = {"model_name": "m", "embedding": VECTOR}
    assert client.post("/embeddings", json=vector).status_code == 201
    question = json.dumps({**vector, "scope": "baseline"}).encode()

    def search() -> httpx2.Response:
        return client.post("/search", content=question, headers={"Content-Type": JSON})

    with connect(store) as other, ThreadPoolExecutor(4) as threads:
        with other.transaction():
            other.execute("lock table baseline")
            searches = [threads.submit(search) for _ in range(4)]
            wait_for(lambda: held(client) == 4 * len(question), "the searches")
            assert client.post("/embeddings", json=vector).status_code == 201
            assert not any(each.done() for each in searches)
        answers = [each.result(240) for each in searches]
    assert {problem(each, 404)["detail"] for each in answers} == {"model m has no baseline yet"}


@pytest.mark.usefixtures("patient_writers")
def test_canaries_that_wait_leave_connections_to_the_writer(
    few_connections: None, client: TestClient, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.http.app._CANARY_SECONDS", 240.0)
    canaries = {"model_name": "c", "embedding": VECTOR, "id": "canary:own:a"}
    assert client.post("/canaries", json=canaries).status_code == 201
    given = json.dumps(canaries).encode()

    def send() -> httpx2.Response:
        return client.post("/canaries", content=given, headers={"Content-Type": JSON})

    with connect(store) as other, connect(store) as watching, ThreadPoolExecutor(4) as threads:
        with other.transaction():
            other.execute("select from model where model_name = 'c' for update")
            sets = [threads.submit(send) for _ in range(4)]
            wait_for(lambda: held(client) >= 4 * len(given), "the canaries")
            wait_for(lambda: waits_for_a_lock(watching), "the first of them")
            vector = {"model_name": "m", "embedding": VECTOR}
            assert client.post("/embeddings", json=vector).status_code == 201
            assert not any(each.done() for each in sets)
        assert [each.result(240).status_code for each in sets] == [201] * 4
