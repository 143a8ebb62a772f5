"""The service as people run it: one process, an embedded PostgreSQL, signals."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPResponse
from pathlib import Path

import httpx2
import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families
from psycopg.conninfo import make_conninfo

from exporter.cli import main
from exporter.metrics import families
from exporter.metrics.families import FAMILIES
from ingest.pipeline import metrics as ingest_metrics
from ingest.runtime.http import application
from tests.service import (
    Service,
    command,
    drift,
    get,
    is_followed,
    metrics,
    post,
    report,
    serving,
    wait_for,
    window,
)

NOT_YET = (
    families.COSINE_SIMILARITY_EXPECTED,
    families.COSINE_SIMILARITY_LOWER,
    families.COSINE_SIMILARITY_UPPER,
    families.SEASONAL_ANOMALY,
    families.COSINE_SIMILARITY_SLOPE,
    families.COSINE_SIMILARITY_TREND_SCORE,
    families.COSINE_SIMILARITY_CHANGE_TIMESTAMP,
    families.SCORE_RISE,
    families.TOP_DIMENSION_WASSERSTEIN,
    families.REVISION_COSINE,
    families.MISMATCH_TIMESTAMP,
    families.NOT_FOLLOWED,
    families.CANARY_DISTANCE,
    families.CANARY_TIMESTAMP,
    families.CANARY_GAP,
    families.CAUSE,
    families.GROUP_RATIO,
    families.EXPLANATION_TIMESTAMP,
    families.EXPLANATION_INFO,
    families.SLICE_RATIO,
    families.SLICE_BASELINE_RATIO,
    families.SLICES_FOLDED,
)
"""Absent with less than four days of history, no drift, no revisions, no canaries, no slices, and
all models followed."""

CONFIG = """
monitoring:
  poll_interval: 0.1
  check_interval: 1
  baseline: {vectors: 1000}
server: {port: 0}
database: {data_directory: %s}
"""


@pytest.fixture
def config(folder: Path) -> Path:
    file = folder / "config.yaml"
    file.write_text(CONFIG % (folder / "data"))
    return file


def state(url: str, of: str = "fast") -> str:
    told: str = window(url, name=of).get("state", "unknown")
    return told


def version(url: str) -> int:
    """Version of the baseline; 0 without one."""
    return int((drift(url).get("baseline") or {"version": 0})["version"])


def test_vectors_go_in_and_drift_comes_out(config: Path, sentences: NDArray[np.float32]) -> None:
    with serving(config) as service:
        assert post(service.url, sentences[:1_000]).status_code == 201
        assert post(service.url, sentences[1_000:1_200]).status_code == 201
        wait_for(lambda: state(service.url) == "ok", "a verdict")
        expected = {
            f.name.removesuffix("_total")
            for f in (*FAMILIES, *ingest_metrics.FAMILIES, *application.FAMILIES)
        } - {family.name for family in NOT_YET}

        def shown() -> set[str]:
            page = text_string_to_metric_families(metrics(service.url))
            return {family.name for family in page}

        # Each examination of the first check adds its own.
        wait_for(lambda: expected <= shown(), "all families")
        assert shown().isdisjoint(family.name for family in NOT_YET)

        report = drift(service.url)
        assert report["baseline"]["vectors"] == 1_000
        assert report["windows"]["fast"]["vectors"] == 200
        assert report["windows"]["fast"]["score"] < 4.5
        assert get(f"{service.url}/drift").json()["models"][0]["model_name"] == "m"

        rotated = np.roll(sentences[1_200:1_400], 1, axis=1)
        assert post(service.url, rotated).status_code == 201

        def drifted() -> bool:
            return bool(window(service.url).get("score", 0) > 4.5)

        wait_for(drifted, "a score above the threshold")


def test_promtool_has_nothing_to_say_against_a_live_page(
    config: Path, sentences: NDArray[np.float32], tool: Callable[[str], str]
) -> None:
    with serving(config) as service:
        assert post(service.url, sentences[:1_200]).status_code == 201
        wait_for(lambda: state(service.url) == "ok", "a verdict")
        page = metrics(service.url)
    check = [tool("promtool"), "check", "metrics"]
    answer = subprocess.run(check, input=page, capture_output=True, text=True)
    assert (answer.returncode, answer.stdout + answer.stderr) == (0, "")


def test_an_unknown_model_is_a_404_that_says_where_to_look(config: Path) -> None:
    with serving(config) as service:
        response = get(f"{service.url}/drift/none")
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"
        assert "GET /drift lists" in response.json()["detail"]


def test_data_survives_a_restart(config: Path, sentences: NDArray[np.float32]) -> None:
    with serving(config) as service:
        post(service.url, sentences[:1_100])
        wait_for(lambda: state(service.url) == "ok", "a verdict")
        before = report(service.url)
    with serving(config) as service:
        wait_for(lambda: state(service.url) == "ok", "a verdict")
        assert report(service.url) == before


def test_a_copy_of_the_data_directory_is_a_backup(
    config: Path, folder: Path, sentences: NDArray[np.float32]
) -> None:
    with serving(config) as service:
        post(service.url, sentences[:1_200])
        post(service.url, sentences[1_200:1_300])
        stored_at = time.time()
        wait_for(lambda: state(service.url) == "ok", "a verdict")
        wait_for(lambda: is_followed(metrics(service.url), "m", stored_at), "all of both batches")
        before = report(service.url)
    subprocess.run(["cp", "-a", folder / "data", folder / "copy"], check=True)
    shutil.rmtree(folder / "data")
    copied = f"database.data_directory={folder / 'copy'}"
    with serving(config, "serve", "--set", copied) as service:
        wait_for(lambda: state(service.url) == "ok", "the verdict")
        assert report(service.url) == before
        assert post(service.url, sentences[1_300:1_400]).json()["stored"] == 100
        wait_for(lambda: report(service.url)["vectors"] == 1_400, "what is new")
        assert run(config, "baseline", "list", "m", "--set", copied).stdout.startswith("1\t")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly_children_included(config: Path, number: signal.Signals) -> None:
    data = str(config.parent / "data")
    with serving(config) as service:
        assert any(_works_in(p, data) for p in psutil.process_iter())
        service.process.send_signal(number)
        assert service.process.wait(240) == 0, service.log.read_text()
    left = [p for p in psutil.process_iter() if _works_in(p, data)]
    assert left == []
    assert "Traceback" not in service.log.read_text()


@pytest.mark.parametrize("way", ["hangup", "request"])
def test_settings_are_reloaded_while_the_service_runs(
    config: Path, sentences: NDArray[np.float32], way: str
) -> None:
    def reload(service: Service) -> None:
        if way == "hangup":
            service.process.send_signal(signal.SIGHUP)
        else:
            httpx2.post(f"{service.url}/-/reload", timeout=60)

    def says(service: Service, sample: str) -> bool:
        return sample in metrics(service.url)

    good = config.read_text()
    with serving(config) as service:
        assert post(service.url, sentences[:1]).status_code == 201
        config.write_text(good + "ingest: {max_batch_vectors: 2}\n")
        reload(service)
        wait_for(lambda: post(service.url, sentences[:3]).status_code == 413, "the new limit")
        config.write_text(good + "ingest: {max_batch_vectors: -1}\n")
        reload(service)
        failed = "embedding_drift_config_last_reload_successful 0.0"
        wait_for(lambda: says(service, failed), "word of the refusal")
        assert post(service.url, sentences[:3]).status_code == 413
        wait_for(lambda: "ingest.max_batch_vectors" in service.log.read_text(), "the reason")


def _works_in(process: psutil.Process, data: str) -> bool:
    """Whether a process has a data directory in its arguments, or as its folder."""
    try:
        return data in " ".join([*process.cmdline(), process.cwd()])
    except psutil.Error:
        return False


def test_a_killed_service_is_taken_over_by_the_next(
    config: Path, sentences: NDArray[np.float32]
) -> None:
    with serving(config) as service:
        post(service.url, sentences[:100])
        service.process.kill()
        service.process.wait()
    with serving(config) as service:
        # What is stored of it may be from before its vectors came.
        wait_for(lambda: drift(service.url).get("vectors") == 100, "the model")


def test_requests_under_way_are_finished_before_leaving(
    config: Path, sentences: NDArray[np.float32]
) -> None:
    with serving(config) as service:
        with httpx2.Client(timeout=60) as client:
            for at in range(0, 500, 50):
                headers = {
                    "Content-Type": "application/octet-stream",
                    "X-Model-Name": "m",
                    "X-Dimension": "384",
                }
                body = sentences[at : at + 50].tobytes()
                sent = client.post(f"{service.url}/embeddings", content=body, headers=headers)
                assert sent.status_code == 201
            os.kill(service.process.pid, signal.SIGTERM)
        assert service.process.wait(240) == 0


def test_a_body_half_sent_when_the_service_stops_is_a_503_to_be_sent_again(
    config: Path, sentences: NDArray[np.float32]
) -> None:
    """It is waited for as long as requests under way are, which is less than it may take."""
    body = sentences[:50].tobytes()
    head = (
        "POST /embeddings HTTP/1.1\r\nHost: localhost\r\nX-Model-Name: m\r\nX-Dimension: 384\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with serving(config, "ingest") as service:

        def has_half() -> bool:
            page = metrics(service.url)
            return f"embedding_drift_ingest_queue_bytes {len(body) / 2}" in page

        address = httpx2.URL(service.url)
        with socket.create_connection((address.host, address.port), 60) as client:
            client.sendall(head.encode() + body[: len(body) // 2])
            wait_for(has_half, "the half")
            service.process.terminate()
            answer = HTTPResponse(client)
            answer.begin()
            said = answer.read().decode()
        assert service.process.wait(240) == 0
    assert answer.status == 503, said
    assert json.loads(said)["detail"] == "the service stops before the request was done"
    assert int(answer.headers["Retry-After"]) > 0
    assert "Traceback" not in service.log.read_text()


def test_both_halves_run_as_processes_of_their_own(
    config: Path, sentences: NDArray[np.float32]
) -> None:
    with serving(config, "ingest") as ingest, serving(config, "exporter") as exporter:
        assert post(ingest.url, sentences[:1_100]).status_code == 201
        wait_for(lambda: state(exporter.url) == "ok", "a verdict")
        assert "models" in get(f"{ingest.url}/drift").raise_for_status().json()
        assert "embedding_drift_ingest_vectors_total" in metrics(ingest.url)


def run(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(config, *arguments), capture_output=True, text=True, timeout=240, check=False
    )


def test_a_taken_port_is_an_error_with_the_setting_to_change(config: Path) -> None:
    with serving(config) as service:
        port = service.url.rsplit(":", 1)[1]
        done = run(config, "serve", "--set", f"server.port={port}")
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port} (server.host, server.port)" in done.stderr


NOT_THERE = "database.connection_string=postgresql://u:hunter2@127.0.0.1:1/db"


def test_a_service_waits_for_a_server_that_is_not_there(config: Path) -> None:
    with serving(config, "serve", "--set", NOT_THERE) as service:
        answer = get(f"{service.url}/-/ready")
        log = service.log.read_text()
    assert answer.status_code == 503
    assert "store: PostgreSQL is not available" in answer.text
    assert "Traceback" not in log
    assert "hunter2" not in log + answer.text


def test_a_server_that_is_not_there_is_an_error_and_no_traceback(config: Path) -> None:
    done = run(config, "migrate", "--timeout", "0", "--set", NOT_THERE)
    assert done.returncode == 1
    assert "PostgreSQL is not available" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


def test_the_baseline_can_be_pinned_and_listed_while_a_service_runs(
    config: Path, sentences: NDArray[np.float32]
) -> None:
    with serving(config) as service:
        post(service.url, sentences[:600])
        pinned = run(config, "baseline", "pin", "m", "--last", "500")
        assert pinned.stdout.startswith("m: baseline 1 pinned: 500 vectors from 20"), pinned.stderr
        wait_for(lambda: state(service.url) == "too_few_vectors", "the baseline")
        post(service.url, sentences[600:700])
        wait_for(lambda: state(service.url) == "ok", "a verdict")
        listed = run(config, "baseline", "list", "m").stdout
        assert listed.startswith("1\tby hand, in use\t500 vectors from 20")
        assert listed.endswith(" UTC\tlast 500\n")
        assert pinned.stdout.endswith(" UTC (last 500)\n")
        seen = run(config, "baseline", "pin", "m", "--last", "400", "--dry-run").stdout
        assert seen.startswith("m: 400 vectors from 20")
        assert "\nm: by baseline 1, their score is " in seen
        post(service.url, sentences[700:800] * np.float32(2))
        again = ("baseline", "pin", "m", "--last", "500")
        dry = (*again, "--dry-run")
        wait_for(lambda: "drifts now: to pin them" in run(config, *dry).stdout, "a record")
        assert "drifts now" in run(config, *again).stderr
        forced = run(config, *again, "--force")
        assert forced.stdout.startswith("m: baseline 2 pinned: 500 vectors from 20")
        assert run(config, "baseline", "use", "m", "1").stdout == "m: baseline 1 is in use\n"
        wait_for(lambda: version(service.url) == 1, "the first baseline")
        assert run(config, "baseline", "pin", "none", "--last", "500").returncode == 1
        few = run(config, "baseline", "pin", "m", "--last", "5", "--force")
        assert few.returncode == 1
        assert "baseline of m (last 5)" in few.stderr
        assert run(config, "baseline", "pin", "m").returncode == 2


def test_a_changed_dimension_is_shown_until_a_person_resolves_it(
    config: Path, sentences: NDArray[np.float32]
) -> None:
    with serving(config) as service:
        post(service.url, sentences[:1_300])
        wait_for(lambda: state(service.url) == "ok", "the baseline")
        assert post(service.url, sentences[:10, :16]).status_code == 409
        assert post(service.url, sentences[1_300:1_400]).status_code == 201
        wait_for(lambda: state(service.url) == "dimension_changed", "the change")
        # The refusal may be seen a poll before the vectors.
        wait_for(lambda: drift(service.url).get("vectors") == 1_400, "the vectors after it")
        report = drift(service.url)
        assert report["windows"]["fast"]["score"] >= 0
        assert run(config, "model", "resolve", "m").stdout == "m: resolved\n"
        wait_for(lambda: state(service.url) == "ok", "the end of it")


def test_a_model_can_be_listed_and_removed_while_a_service_runs(
    config: Path, sentences: NDArray[np.float32]
) -> None:
    with serving(config, "serve", "--set", "ingest.max_models=1") as service:
        post(service.url, sentences[:600])
        wait_for(lambda: state(service.url) == "no_baseline", "the model")
        assert post(service.url, sentences[:10], "n").status_code == 403
        listed = run(config, "model", "list").stdout
        assert listed.startswith("m\t384 dimensions\t600 vectors\tlast 2")
        assert run(config, "model", "remove", "m").returncode == 1, "nobody said yes"
        assert state(service.url) == "no_baseline"
        assert run(config, "model", "remove", "m", "--yes").stdout == "m: removed\n"
        wait_for(lambda: state(service.url) == "unknown", "the removal")
        page = metrics(service.url)
        of_model = re.findall(r'^(\w+){model_name="m"', page, re.MULTILINE)
        # What ingest has counted stays, as counters do.
        assert {family.name for family in FAMILIES}.isdisjoint(of_model)
        assert post(service.url, sentences[:10], "n").status_code == 201
        assert run(config, "model", "remove", "n", "--yes").returncode == 0
        assert post(service.url, sentences[600:700]).json()["stored"] == 100
        # A model is seen before its first vectors are.
        wait_for(lambda: drift(service.url).get("vectors") == 100, "the model anew")
        missing = run(config, "model", "remove", "n", "--yes")
        assert missing.returncode == 1
        # Before it, the log tells that the service runs the database.
        assert missing.stderr.endswith("Error: there is no model 'n'\n")


def test_check_config_says_valid_or_what_is_wrong(config: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "exporter", "check", "config", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)

    assert run(str(config)).stdout == f"{config}: valid\n"
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("monitoring: {drift_treshold: 0.1}")
    done = run(str(wrong))
    assert done.returncode == 2
    assert "monitoring.drift_treshold: line 1, column 14: unknown key" in done.stderr
    assert "did you mean drift_threshold?" in done.stderr


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        ("{host: 0.0.0.0}", "clients need no credentials"),
        ("{tokens_file: none.yaml}", "none.yaml (server.tokens_file) cannot be read"),
        ("{web_config_file: none.yaml}", "none.yaml (server.web_config_file) cannot be read"),
        ("{web_config_file: web.yaml}", "none.crt"),
    ],
)
def test_check_config_refuses_what_a_service_would_not_start_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    tls = "{cert_file: none.crt, key_file: none.key}"
    (tmp_path / "web.yaml").write_text(f"tls_server_config: {tls}\n")
    (tmp_path / "config.yaml").write_text(f"server: {server}\n")
    done = CliRunner().invoke(main, ["check", "config", "config.yaml"])
    assert done.exit_code == 2
    assert reason in done.output
    assert "valid\n" not in done.output


def test_migrate_runs_twice(config: Path) -> None:
    assert run(config, "migrate").stdout.startswith("applied: 0001_initial")
    assert run(config, "migrate").stdout == "the schema is up to date\n"


def test_a_read_only_server_without_the_schema_is_an_error_and_no_traceback(
    config: Path, empty_database: str
) -> None:
    string = make_conninfo(empty_database, options="-c default_transaction_read_only=on")
    setting = f"database.connection_string={string}"
    done = run(config, "migrate", "--timeout", "0", "--set", setting)
    assert done.returncode == 1
    assert "read-only transaction" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["ingest", "serve"])
def test_a_service_waits_until_it_may_write_the_schema(
    name: str, config: Path, empty_database: str
) -> None:
    """As on a standby that is about to be promoted."""
    string = make_conninfo(empty_database, options="-c default_transaction_read_only=on")
    with serving(config, name, "--set", f"database.connection_string={string}") as service:
        answer = get(f"{service.url}/-/ready")
        log = service.log.read_text()
    assert answer.status_code == 503
    assert "read-only transaction" in answer.text
    assert "Traceback" not in log


def test_a_read_only_server_with_the_schema_is_served_and_stores_nothing(
    config: Path, store: str, sentences: NDArray[np.float32]
) -> None:
    string = make_conninfo(store, options="-c default_transaction_read_only=on")
    with serving(config, "serve", "--set", f"database.connection_string={string}") as service:
        assert post(service.url, sentences[:10]).status_code == 503
        assert get(f"{service.url}/metrics").status_code == 200
