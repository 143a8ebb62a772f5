"""The program that `helm test` runs, with a real ingest and a real exporter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import trustme

from ingest.runtime.auth import tokens
from k8s.helm import CHART
from tests.service import serving
from tests.test_security import certify, write_web

PROGRAM = CHART / "files" / "vector.py"


def run(
    ingest: str, exporter: str, token: str, store: str, **more: str
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "INGEST": ingest,
        "EXPORTER": exporter,
        "TOKEN": token,
        "EMBEDDING_DRIFT_DATABASE_CONNECTION_STRING": store,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        **more,
    }
    return subprocess.run(
        [sys.executable, PROGRAM], env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("is_known", [True, False])
def test_a_vector_goes_in_is_shown_and_leaves_nothing_but_only_with_a_known_token(
    is_known: bool, store: str, tmp_path: Path
) -> None:
    token = tokens.add(tmp_path / "tokens.yaml", "clients", ["write"])
    database = f"database: {{connection_string: {store!r}}}\n"
    ingest, exporter = tmp_path / "ingest.yaml", tmp_path / "exporter.yaml"
    ingest.write_text(f"{database}server: {{port: 0, tokens_file: {tmp_path / 'tokens.yaml'}}}\n")
    exporter.write_text(f"{database}server: {{port: 0}}\n")
    with serving(ingest, "ingest") as stores, serving(exporter, "exporter") as shows:
        answer = run(stores.url, shows.url, token if is_known else "wrong", store)
    if is_known:
        assert answer.returncode == 0, answer.stderr
        assert "'stored': 1" in answer.stdout
        assert "'model_name': 'helm-test'" in answer.stdout
    else:
        assert answer.returncode != 0
        assert "401" in answer.stderr
    with psycopg.connect(store) as connection:
        [(models,)] = connection.execute("select count(*) from model").fetchall()
    assert models == 0


def test_a_vector_goes_in_by_https_and_an_exporter_that_asks_for_a_user_is_not_a_failure(
    store: str, tmp_path: Path
) -> None:
    certify(trustme.CA(), tmp_path)
    write_web(tmp_path)
    token = tokens.add(tmp_path / "tokens.yaml", "clients", ["write"])
    shared = f"database: {{connection_string: {store!r}}}\n"
    web = f"port: 0, web_config_file: {tmp_path / 'web.yml'}"
    ingest, exporter = tmp_path / "ingest.yaml", tmp_path / "exporter.yaml"
    ingest.write_text(f"{shared}server: {{{web}, tokens_file: {tmp_path / 'tokens.yaml'}}}\n")
    exporter.write_text(f"{shared}server: {{{web}}}\n")
    with serving(ingest, "ingest") as stores, serving(exporter, "exporter") as shows:
        trusted = str(tmp_path / "ca.pem")
        answer = run(stores.url, shows.url, token, store, SSL_CERT_FILE=trusted)
    assert stores.url.startswith("https://")
    assert answer.returncode == 0, answer.stderr
    assert "'stored': 1" in answer.stdout
    assert "exporter: asks for a user" in answer.stdout
