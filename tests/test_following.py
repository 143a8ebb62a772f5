"""A model that cannot be read says so everywhere, and the runbook's mitigation ends it."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np
import psycopg
from numpy.typing import NDArray

from tests.service import drift, get, metrics, post, serving, wait_for, window

CONFIG = """
monitoring: {poll_interval: 0.1, baseline: {vectors: 500}}
server: {port: 0}
database: {connection_string: "%s"}
"""

DAMAGE = """
    create function damage() returns trigger language plpgsql as $$
        begin new.embedding := '[1]'; return new; end $$;
    create trigger damage before insert on embedding for each row
        when (new.model_name = 'm' and new.seq = 650) execute function damage()
"""


def state(url: str, name: str) -> str:
    return str(window(url, name).get("state", ""))


def test_a_damaged_vector_stops_only_its_model_until_it_is_deleted(
    tmp_path: Path, store: str, sentences: NDArray[np.float32]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG % store)
    with serving(config) as service, psycopg.connect(store, autocommit=True) as connection:
        for name in ("m", "other"):
            assert post(service.url, sentences[:600], name).status_code == 201
        wait_for(lambda: state(service.url, "m") == "ok", "a verdict")

        connection.execute(DAMAGE)
        for name in ("m", "other"):
            assert post(service.url, sentences[600:700], name).status_code == 201
        wait_for(lambda: state(service.url, "m") == "not_followed", "the trouble in the state")
        report = drift(service.url)
        assert "score" not in report["windows"]["fast"]
        assert report["vectors"] == 700
        following = report["following"]
        assert following["behind"] == 100
        assert following["reason"] == "vectors_unreadable"
        assert following["since"] > following["followed_at"]
        page = metrics(service.url)
        assert 'not_followed{model_name="m",reason="vectors_unreadable"} 1.0' in page
        assert 'embedding_drift_vectors_behind{model_name="m"} 100.0' in page
        assert 'embedding_drift_score{model_name="m"' not in page
        html_only = {"Accept": "text/html"}
        people = get(f"{service.url}/drift/m", headers=html_only).text
        assert "It is not followed since" in people
        assert following["detail"] in html.unescape(people)
        others = get(f"{service.url}/drift/other", headers=html_only).text
        assert "not followed since" not in others
        wait_for(
            lambda: drift(service.url, "other").get("vectors") == 700, "the other model's vectors"
        )
        wait_for(lambda: state(service.url, "other") == "ok", "the other model's verdict")

        # The runbook: delete the row that the detail names.
        assert "seq 650 has a vector of dimension 1; the model's is 384" in following["detail"]
        connection.execute("delete from embedding where model_name = 'm' and seq = 650")
        wait_for(lambda: state(service.url, "m") == "ok", "the end of the trouble")
        assert drift(service.url)["following"]["behind"] == 0
        assert "is not followed" not in get(f"{service.url}/").text
