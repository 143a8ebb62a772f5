"""The hand-over script configures kubectl and creates the secrets.

Only AWS and the API server are stand-ins.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict

from tests.programs import find

TEMPLATE = Path(__file__).parents[2] / "terraform" / "hand-over.sh.tftpl"
PASSWORD = "p@ss:w/rd?#[%]&'\"\\ $(id) é"
WEBHOOK = "https://hooks.slack.com/services/T024/B024/secret"

# Answers get-secret-value with the file of that name, and records everything else.
AWS = """#!/bin/sh
case "$1" in
    secretsmanager) cat "$PARTS/$6" ;;
    *) echo "$@" >>"$PARTS/aws" ;;
esac
"""
# Creates objects as kubectl does, and records what it would send to the API server. A file with the
# labels of the namespace makes it exist.
KUBECTL = """#!/bin/sh
case "$1" in
    create) exec '{kubectl}' "$@" ;;
    get)
        [ "$2 $3" = "namespace embedding-drift" ] || exit 1
        [ "$4 $5" = "--ignore-not-found --output=jsonpath={{.metadata.labels}}" ] || exit 1
        [ ! -e "$PARTS/labels" ] || cat "$PARTS/labels"
        ;;
    apply) echo --- >>"$PARTS/applied" && cat >>"$PARTS/applied" ;;
esac
"""

Render = Callable[[str], str]
Run = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture
def script(tmp_path: Path) -> Render:
    """Render the script as Terraform does, with or without a Slack secret."""

    def render(slack_secret: str) -> str:
        values = {
            "region": "eu-central-1",
            "cluster": "drift",
            "namespace": "embedding-drift",
            "database_address": "db.example.com",
            "database_name": "embeddings",
            "database_secret": "database",
            "slack_secret": slack_secret,
        }
        expression = f"jsonencode(templatefile({json.dumps(str(TEMPLATE))}, {json.dumps(values)}))"
        answer = subprocess.run(
            [find("terraform"), "console"],
            input=expression,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert answer.returncode == 0, answer.stderr
        return str(json.loads(json.loads(answer.stdout)))

    return render


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the script with the stand-ins, as `terraform output -raw hand_over | sh` does."""
    find("jq")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "aws").write_text(AWS)
    (bin_ / "kubectl").write_text(KUBECTL.format(kubectl=find("kubectl")))
    for stand_in in bin_.iterdir():
        stand_in.chmod(0o755)
    credentials = {"username": "embedding_drift", "password": PASSWORD}
    (tmp_path / "database").write_text(json.dumps(credentials) + "\n")
    (tmp_path / "slack").write_text(WEBHOOK + "\n")
    environment = os.environ | {
        "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}",
        "PARTS": str(tmp_path),
    }

    def run(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh"], input=script, env=environment, capture_output=True, text=True
        )

    return run


@pytest.fixture
def applied(tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    """Return the objects that reached the API server."""

    def read() -> list[dict[str, Any]]:
        return [item for item in yaml.safe_load_all((tmp_path / "applied").read_text()) if item]

    return read


def _value(secret: dict[str, Any], key: str) -> str:
    return base64.b64decode(secret["data"][key]).decode()


def test_kubectl_is_configured_for_the_cluster(script: Render, run: Run, tmp_path: Path) -> None:
    answer = run(script(""))
    assert answer.returncode == 0, answer.stderr
    commands = (tmp_path / "aws").read_text()
    assert commands == "eks update-kubeconfig --region eu-central-1 --name drift\n"


def test_the_password_may_have_any_characters(
    script: Render, run: Run, applied: Callable[[], list[dict[str, Any]]]
) -> None:
    run(script(""))
    namespace, secret = applied()
    assert namespace["metadata"]["name"] == "embedding-drift"
    assert secret["metadata"]["name"] == "embedding-drift-database"
    assert secret["metadata"]["namespace"] == "embedding-drift"
    assert conninfo_to_dict(_value(secret, "connection_string")) == {
        "user": "embedding_drift",
        "password": PASSWORD,
        "host": "db.example.com",
        "port": "5432",
        "dbname": "embeddings",
        "sslmode": "require",
    }


def test_the_namespace_refuses_pods_with_more_rights_than_those_of_the_chart(
    script: Render, run: Run, applied: Callable[[], list[dict[str, Any]]]
) -> None:
    run(script(""))
    namespace = applied()[0]["metadata"]
    assert namespace["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}


def test_a_namespace_that_exists_keeps_its_labels_and_gets_the_secrets(
    script: Render, run: Run, applied: Callable[[], list[dict[str, Any]]], tmp_path: Path
) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "baseline"}
    (tmp_path / "labels").write_text(json.dumps(labels, separators=(",", ":")))
    answer = run(script(""))
    assert answer.returncode == 0, answer.stderr
    assert [item["kind"] for item in applied()] == ["Secret"]
    assert "namespace embedding-drift existed and keeps its labels" in answer.stderr


def test_a_second_run_says_nothing_about_the_namespace(
    script: Render, run: Run, applied: Callable[[], list[dict[str, Any]]], tmp_path: Path
) -> None:
    run(script(""))
    labels = applied()[0]["metadata"]["labels"]
    (tmp_path / "labels").write_text(json.dumps(labels, separators=(",", ":")))
    assert run(script("")).stderr == ""
    assert [item["kind"] for item in applied()] == ["Namespace", "Secret", "Secret"]


def test_the_webhook_is_handed_over_if_there_is_one(
    script: Render, run: Run, applied: Callable[[], list[dict[str, Any]]]
) -> None:
    run(script("slack"))
    secret = applied()[-1]
    assert secret["metadata"]["name"] == "embedding-drift-slack"
    assert _value(secret, "slack_webhook") == WEBHOOK


def test_a_secret_that_cannot_be_read_stops_the_script(
    script: Render, run: Run, applied: Callable[[], list[dict[str, Any]]], tmp_path: Path
) -> None:
    (tmp_path / "database").unlink()
    assert run(script("")).returncode != 0
    assert [item["kind"] for item in applied()] == ["Namespace"]
