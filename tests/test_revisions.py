"""A corpus that another encoder embeds again is noticed, also under the ids it had before."""

from __future__ import annotations

import time
from pathlib import Path

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray

from embedding_drift_client import Answer, Sender
from tests.service import is_followed, metrics, serving, wait_for, window

CONFIG = """
monitoring: {poll_interval: 0.1, check_interval: 1}
server: {port: 0}
database: {connection_string: "%s"}
ingest: {ids: %s}
"""


def send(url: str, vectors: NDArray[np.float32]) -> Answer:
    """Send vectors in batches, each under its number as id; return the sums of the answers."""
    with Sender(url, "m") as sender:
        answers = [
            sender.send(vectors[at : at + 500], ids=[f"doc-{n}" for n in range(at, at + 500)])
            for at in range(0, len(vectors), 500)
        ]
    return Answer(
        sum(answer.stored for answer in answers),
        sum(answer.duplicates for answer in answers),
        sum(answer.revisions for answer in answers),
    )


def magnitude(url: str) -> float:
    found: dict[str, float] = window(url).get("magnitude", {"estimate": 0.0})
    return found["estimate"]


def written(folder: Path, store: str, ids: str) -> Path:
    config = folder / "config.yaml"
    config.write_text(CONFIG % (store, ids))
    return config


def test_a_corpus_that_is_embedded_again_drifts(
    tmp_path: Path, store: str, sentences: NDArray[np.float32]
) -> None:
    with serving(written(tmp_path, store, "revise")) as service:
        assert send(service.url, sentences) == Answer(6_000, 0, 0)
        wait_for(lambda: window(service.url).get("state") == "ok", "a verdict")
        assert window(service.url)["score"] < 5

        assert send(service.url, sentences) == Answer(0, 6_000, 0)
        assert send(service.url, sentences + 5) == Answer(6_000, 0, 6_000)
        sent_at = time.time()
        wait_for(lambda: is_followed(metrics(service.url), "m", sent_at), "all of them")
        wait_for(lambda: window(service.url).get("score", 0) > 20, "a high score")
        # A thousand vectors of the window came before.
        wait_for(lambda: magnitude(service.url) > 0.8, "what the rules call critical")
        # Five in each component turns every vector by the same large angle.
        found = window(service.url)
        revisions = found["revisions"]
        assert revisions["vectors"] / found["vectors"] == pytest.approx(6 / 7, abs=0.02)
        assert revisions["median_cosine"] < 0.3
        page = metrics(service.url)
        assert 'embedding_drift_ingest_revisions_total{model_name="m"} 6000.0' in page

    # Ids are in the store, so a restart forgets none.
    with serving(written(tmp_path, store, "revise")) as service:
        assert send(service.url, sentences + 5) == Answer(0, 6_000, 0)
        found = httpx2.post(
            f"{service.url}/search", json={"model_name": "m", "id": "doc-7", "k": 1}, timeout=60
        ).json()
        assert [match["seq"] for match in found["matches"]] == [6_008]


def test_ids_of_events_are_stored_once(
    tmp_path: Path, store: str, sentences: NDArray[np.float32]
) -> None:
    with serving(written(tmp_path, store, "once")) as service:
        send(service.url, sentences[:500])
        assert send(service.url, sentences[:500] + 5) == Answer(0, 500, 0)
