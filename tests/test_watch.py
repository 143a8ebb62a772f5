"""``embedding-drift watch`` as a process, on a table that an application fills."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from psycopg.conninfo import conninfo_to_dict
from qdrant_client import models

from tests.broker import Broker
from tests.postgresql import Application
from tests.qdrant import Qdrant
from tests.service import command, get, metrics, serving, wait_for

CONFIG = """
monitoring: {poll_interval: 0.1, baseline: {vectors: 500}}
server: {port: 0}
database: {data_directory: %s}
"""
WATCH = ("watch", "--table", "docs", "--time", "updated_at")
BY_ID = ("watch", "--table", "docs")
VARIABLES = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE"}


@pytest.fixture
def config(folder: Path) -> Path:
    file = folder / "config.yaml"
    file.write_text(CONFIG % (folder / "data"))
    return file


@pytest.fixture
def environment(application: Application) -> dict[str, str]:
    """Variables that lead libpq to the application's database, as the role that may only read."""
    parts = conninfo_to_dict(application.reader)
    given = {VARIABLES[key]: str(value) for key, value in parts.items() if key in VARIABLES}
    return {"PGPASSWORD": "secret", **given}


def add(connection: psycopg.Connection, vectors: NDArray[np.float32]) -> None:
    with connection.cursor() as cursor, cursor.copy("copy docs (embedding) from stdin") as stream:
        for vector in vectors:
            stream.write_row([str(vector.tolist())])


def test_a_killed_watch_continues_where_it_stopped(
    config: Path,
    application: Application,
    environment: dict[str, str],
    sentences: NDArray[np.float32],
) -> None:
    def counts(url: str, vectors: int) -> bool:
        return f'embedding_drift_vectors_total{{model_name="docs"}} {vectors}.0' in metrics(url)

    add(application.connection, sentences[:600])
    with serving(config, *WATCH, environment=environment) as service:
        # First the newest rows, as many as a baseline takes; then every new row.
        wait_for(lambda: counts(service.url, 500), "the baseline's vectors")
        add(application.connection, sentences[600:800])
        wait_for(lambda: counts(service.url, 700), "the new vectors")
        wait_for(lambda: 'state="ok",window="fast"} 1.0' in metrics(service.url), "a verdict")
        assert 'embedding_drift_watch_up{model_name="docs"} 1.0' in metrics(service.url)
        assert 'watch_poll_timestamp_seconds{model_name="docs"} ' in metrics(service.url)
        assert get(f"{service.url}/-/ready").status_code == 200
        assert httpx2.post(f"{service.url}/embeddings", content=b"", timeout=60).status_code == 404
        # EmbeddingDriftIngestDown takes a process with this series for one that takes vectors.
        assert 'route="/embeddings"' not in metrics(service.url)
        wanted = {"model_name": "docs", "embedding": sentences[790].tolist(), "k": 1}
        [match] = httpx2.post(f"{service.url}/search", json=wanted, timeout=60).json()["matches"]
        assert match["similarity"] == pytest.approx(1)
        add(application.connection, sentences[800:900])
        service.process.kill()
        service.process.wait()
    add(application.connection, sentences[900:1_000])
    with serving(config, *WATCH, environment=environment) as service:
        wait_for(lambda: counts(service.url, 900), "the rows added while nothing watched")
        add(application.connection, sentences[1_000:1_001])
        wait_for(lambda: counts(service.url, 901), "one more row, and no row twice")


def test_a_missing_table_is_reported_and_followed_again_when_it_is_back(
    config: Path,
    application: Application,
    environment: dict[str, str],
    sentences: NDArray[np.float32],
) -> None:
    def up(url: str, value: int) -> bool:
        return f'embedding_drift_watch_up{{model_name="docs"}} {value}.0' in metrics(url)

    add(application.connection, sentences[:10])
    with serving(config, *WATCH, environment=environment) as service:
        wait_for(lambda: up(service.url, 1), "the first poll")
        application.connection.execute("alter table docs rename to gone")
        wait_for(lambda: up(service.url, 0), "the loss on the page")
        assert "embedding_drift_up 1.0" in metrics(service.url)
        reader = conninfo_to_dict(application.reader)["user"]
        application.connection.execute(
            f"begin; revoke select on gone from {reader}; alter table gone rename to docs; commit"
        )
        wait_for(lambda: "permission denied" in service.log.read_text(), "the new reason")
        assert up(service.url, 0)
        application.connection.execute(f"grant select on docs to {reader}")
        wait_for(lambda: up(service.url, 1), "the recovery on the page")
        log = service.log.read_text()
    assert log.count("table not followed") == 2
    assert "does not exist" in log
    assert "Traceback" not in log


def found(url: str, vector: NDArray[np.float32]) -> dict[str, Any]:
    """Search the most similar vector of the model."""
    wanted = {"model_name": "docs", "embedding": vector.tolist(), "k": 1}
    [match] = (
        httpx2.post(f"{url}/search", json=wanted, timeout=60).raise_for_status().json()["matches"]
    )
    return dict(match)


def test_a_table_without_an_order_is_watched_in_a_sample(
    config: Path,
    application: Application,
    environment: dict[str, str],
    sentences: NDArray[np.float32],
) -> None:
    application.connection.execute(
        "alter table docs alter id drop default, alter id type text using id::text,"
        " drop updated_at, add tenant text default 'a'"
    )

    def add_texts(vectors: NDArray[np.float32], first: int) -> None:
        with application.connection.cursor() as cursor:
            cursor.executemany(
                "insert into docs (id, embedding) values (%s, %s)",
                [(f"doc-{first + n}", str(v.tolist())) for n, v in enumerate(vectors)],
            )

    add_texts(sentences[:50], 0)
    refused = subprocess.run(
        command(config, *BY_ID),
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert refused.returncode == 2
    assert "--id: column 'id' is of type text; without --time" in refused.stderr
    assert "--sample ROWS" in refused.stderr
    sampled = (*BY_ID, "--sample", "1000", "--metadata", "tenant")
    with serving(config, *sampled, environment=environment) as service:
        wait_for(lambda: sample(service.url, "embedding_drift_vectors_total") == 50, "the rows")
        add_texts(sentences[50:60], 50)
        wait_for(lambda: sample(service.url, "embedding_drift_vectors_total") == 60, "new rows")
        match = found(service.url, sentences[55])
        assert match["similarity"] == pytest.approx(1)
        assert (match["id"], match["metadata"]) == ("doc-55", {"tenant": "a"})
    with serving(config, *sampled, environment=environment) as service:
        add_texts(sentences[60:61], 60)
        wait_for(lambda: sample(service.url, "embedding_drift_vectors_total") == 61, "one more")
        assert (sample(service.url, "embedding_drift_ingest_duplicates_total") or 0) == 0


def test_a_collection_of_qdrant_is_watched(
    config: Path, qdrant: Qdrant, sentences: NDArray[np.float32]
) -> None:
    vectors = models.VectorParams(size=sentences.shape[1], distance=models.Distance.DOT)

    def add_points(first: int, count: int) -> None:
        points = [
            models.PointStruct(
                id=n,
                vector=sentences[n].tolist(),
                payload={"page_content": f"text {n}", "metadata": {"source": f"source {n}"}},
            )
            for n in range(first, first + count)
        ]
        with qdrant.lock:
            qdrant.local.upsert("docs", points)

    qdrant.local.create_collection("docs", vectors_config=vectors)
    add_points(0, 50)
    watched = ("watch", "--source", qdrant.source, "--table", "docs")
    langchain = ("--text-column", "page_content", "--metadata", "metadata.source")
    with serving(config, *watched, *langchain) as service:
        wait_for(lambda: sample(service.url, "embedding_drift_vectors_total") == 50, "the points")
        add_points(50, 10)
        wait_for(lambda: sample(service.url, "embedding_drift_vectors_total") == 60, "new points")
        match = found(service.url, sentences[55])
        assert match["similarity"] == pytest.approx(1, abs=1e-5)
        assert match["id"] == "55"
        assert match["metadata"] == {"text": "text 55", "metadata.source": "source 55"}


@pytest.mark.xdist_group("kafka")
def test_no_message_of_kafka_is_lost_or_stored_twice_when_the_watch_is_killed(
    config: Path, kafka: Broker, sentences: NDArray[np.float32]
) -> None:
    topic = kafka.topic(partitions=2)
    watched = ("watch", "--source", topic.source(), "--table", topic.name, "--model", "docs")

    def send(first: int, last: int) -> None:
        for n in range(first, last):
            body = json.dumps({"embedding": sentences[n].tolist(), "metadata": {"n": n}})
            topic.send(body.encode(), partition=n % 2)

    def total(url: str) -> float:
        return sample(url, "embedding_drift_vectors_total") or 0

    sent = 0
    for _ in range(2):
        with serving(config, *watched) as service:
            send(sent, sent + 100)
            # Killed in the middle: some messages are stored, and others are not settled.
            wait_for(lambda: total(service.url) > sent, "the first new messages")  # noqa: B023
            sent += 100
            service.process.kill()
            service.process.wait()
    with serving(config, *watched) as service:
        wait_for(lambda: total(service.url) == sent, "all messages")
        topic.send(b"not JSON")
        wait_for(lambda: "partition 0, offset " in service.log.read_text(), "the bad message")
        down = 'embedding_drift_watch_up{model_name="docs"} 0.0'
        wait_for(lambda: down in metrics(service.url), "the failure on the page")
        match = found(service.url, sentences[155])
        assert match["metadata"] == {"n": 155}
    with serving(config, *watched, "--on-error", "skip") as service:
        topic.send(json.dumps({"embedding": sentences[sent].tolist()}).encode())
        wait_for(lambda: total(service.url) == sent + 1, "what comes after it")
        assert 'reason="PayloadError",route="watch"} 1.0' in metrics(service.url)


def sample(url: str, metric: str) -> float | None:
    """The value of a metric of the model, or None while there is none."""
    match = re.search(rf'^{metric}{{model_name="docs"}} (\S+)$', metrics(url), re.MULTILINE)
    return None if match is None else float(match[1])


def score(url: str) -> float:
    """The score of the fast window, or 0 while there is none."""
    labels = '{model_name="docs",window="fast"}'
    match = re.search(rf"^embedding_drift_score{labels} (\S+)$", metrics(url), re.MULTILINE)
    return 0.0 if match is None else float(match[1])


def test_an_emptied_and_refilled_table_is_read_anew(
    config: Path,
    application: Application,
    environment: dict[str, str],
    sentences: NDArray[np.float32],
) -> None:
    """Its rows have the ids of the rows before. The largest id of both is known to the watch."""

    def counts(url: str, vectors: int, revisions: int) -> bool:
        return (
            sample(url, "embedding_drift_vectors_total") == vectors
            and (sample(url, "embedding_drift_ingest_revisions_total") or 0) == revisions
        )

    add(application.connection, sentences[:1_000])
    shifted = sentences[:900] + 3 * sentences.std(axis=0)
    with serving(config, *BY_ID, environment=environment) as service:
        # The newest 500 rows have the ids 501 to 1,000.
        wait_for(lambda: counts(service.url, 500, 0), "the baseline's vectors")
        assert sample(service.url, "embedding_drift_watch_resets_total") == 0
        with application.connection.transaction():
            application.connection.execute("truncate docs restart identity")
            add(application.connection, shifted)
        # The newest 500 rows have the ids 401 to 900: 400 of them are those of stored vectors.
        wait_for(lambda: counts(service.url, 1_000, 400), "the new rows")
        assert sample(service.url, "embedding_drift_watch_resets_total") == 1
        wait_for(lambda: score(service.url) > 20, "the drift")
        add(application.connection, shifted[:1])  # its id, 901, is that of a stored vector
        wait_for(lambda: counts(service.url, 1_001, 401), "one more row, and no row twice")
        assert sample(service.url, "embedding_drift_watch_resets_total") == 1
        log = service.log.read_text()
    assert log.count("table emptied or re-made") == 1
    assert 'reason="the newest row is older than before"' in log


def test_without_a_time_stored_rows_are_read_again(
    config: Path,
    application: Application,
    environment: dict[str, str],
    sentences: NDArray[np.float32],
) -> None:
    add(application.connection, sentences[:50])
    with serving(config, *BY_ID, "--recheck", "36000", environment=environment) as service:
        wait_for(
            lambda: (sample(service.url, "embedding_drift_ingest_duplicates_total") or 0) >= 10,
            "rows read again",
        )
        wait_for(lambda: sample(service.url, "embedding_drift_vectors_total") == 50, "the rows")
        assert sample(service.url, "embedding_drift_watch_resets_total") == 0


@pytest.mark.parametrize(
    ("arguments", "noticed"),
    [
        (
            [*WATCH],
            'new_rows="by time" changed_rows="all, by time"'
            ' emptied_or_remade="by identity and position" deleted_rows=never',
        ),
        (
            ["watch", "--table", "seen"],
            'new_rows="by id" changed_rows="a sample, 300 per hour"'
            ' emptied_or_remade="by position only" deleted_rows=never',
        ),
        (
            ["watch", "--table", "docs", "--recheck", "0"],
            'new_rows="by id" changed_rows=never'
            ' emptied_or_remade="by identity and position" deleted_rows=never',
        ),
    ],
    ids=["by time", "a view", "no rechecks"],
)
def test_the_log_says_at_the_start_what_is_noticed(
    config: Path,
    application: Application,
    environment: dict[str, str],
    arguments: list[str],
    noticed: str,
) -> None:
    application.connection.execute(
        "create view seen as select * from docs; grant select on seen to public"
    )
    with serving(config, *arguments, environment=environment) as service:
        wait_for(lambda: 'msg="watching a table"' in service.log.read_text(), "the line")
        log = service.log.read_text()
    assert noticed in log


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "dbname=d password=hunter2"], "--source has a password"),
        (["--source", "postgresql://u:hunter2@h/d"], "--source has a password"),
        (["--source", "hunter2"], "--source is not a connection string"),
        (["--model", "my docs"], "'my docs' is not allowed"),
        (["--table", "none"], "--table none"),
        (["--column", "none"], "--column: there is no column 'none'"),
    ],
)
def test_wrong_options_are_refused_before_the_store_starts(
    config: Path, environment: dict[str, str], arguments: list[str], message: str
) -> None:
    done = subprocess.run(
        command(config, *WATCH, *arguments),
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "hunter2" not in done.stderr
    assert not (config.parent / "data").exists()
