"""The guarded service: TLS, users and tokens, seen from outside."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import signal
import ssl
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

import bcrypt
import httpx2
import numpy as np
import psycopg
import pytest
import trustme

from ingest.store.batch import Batch
from ingest.store.connection import AsyncConnection
from ingest.store.vectors import insert
from tests.service import Service, command, serving, wait_for

PASSWORD = "correct horse"
CONFIG = """
monitoring: {{poll_interval: 0.1}}
database: {{connection_string: "{store}"}}
server:
  port: 0
  host: 0.0.0.0
  tokens_file: {folder}/tokens.yaml
  web_config_file: {folder}/web.yml
"""
TLS = "cert_file: cert.pem, key_file: key.pem"
MUTUAL_TLS = f"{TLS}, client_ca_file: ca.pem, client_auth_type: RequireAndVerifyClientCert"


def certify(authority: trustme.CA, folder: Path) -> None:
    """Give the service a certificate by this authority, which its clients trust, and it theirs."""
    own = authority.issue_cert("localhost", "127.0.0.1")
    own.private_key_pem.write_to_path(str(folder / "key.pem"))
    own.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))


def write_web(folder: Path, password: str = PASSWORD, tls: str = TLS, more: str = "") -> None:
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    (folder / "web.yml").write_text(
        f"tls_server_config: {{{tls}}}\nbasic_auth_users: {{prometheus: {hashed}}}\n{more}"
    )


@pytest.fixture
def config(folder: Path, store: str) -> Path:
    certify(trustme.CA(), folder)
    write_web(folder)
    file = folder / "config.yaml"
    file.write_text(CONFIG.format(folder=folder, store=store))
    return file


def make_token(config: Path, name: str, scope: str) -> str:
    arguments = ["token", str(config.parent / "tokens.yaml"), name, "--scope", scope]
    line = command(config, *arguments)[:-2]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()


def client(
    service: Service, folder: Path, authorization: str = "", own: trustme.LeafCert | None = None
) -> httpx2.Client:
    headers = {"Authorization": authorization} if authorization else {}
    url = service.url.replace("0.0.0.0", "127.0.0.1")
    trusting = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    if own is not None:
        own.configure_cert(trusting)
    return httpx2.Client(base_url=url, verify=trusting, headers=headers, timeout=60)


def user(service: Service, folder: Path, password: str = PASSWORD) -> httpx2.Client:
    credentials = base64.b64encode(f"prometheus:{password}".encode()).decode()
    return client(service, folder, f"Basic {credentials}")


def sample(page: str, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", page, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


@pytest.mark.parametrize("key", ["connection_string", "replica_connection_string"])
@pytest.mark.parametrize(
    "string",
    ["postgresql://u:hunter2@[::1/db", "password=hunter2 x", "postgresql://u:hunter2%@h/db"],
)
def test_a_connection_string_that_cannot_be_read_is_refused_without_its_password(
    key: str, string: str, folder: Path
) -> None:
    strings = {"connection_string": "dbname=none", key: string}
    config = folder / "config.yaml"
    config.write_text(f"database: {json.dumps(strings)}\nserver: {{port: 0}}\n")
    line = command(config, "exporter")
    done = subprocess.run(line, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 2
    assert f"{key} cannot be read" in done.stderr
    assert "hunter2" not in done.stderr


def test_each_may_do_what_their_credentials_say(config: Path, folder: Path) -> None:
    scraper, team = make_token(config, "scraper", "metrics"), make_token(config, "team", "write:m")
    vector = {"model_name": "m", "embedding": np.ones(3).tolist()}
    with serving(config) as service:
        assert service.url.startswith("https://")
        with client(service, folder) as nobody:
            refused = nobody.get("/metrics")
            assert refused.status_code == 401
            assert refused.headers.get_list("www-authenticate")[0].startswith("Basic")
            assert refused.headers["content-type"] == "application/problem+json"
            assert nobody.get("/-/healthy").status_code == 200
        with client(service, folder, f"Bearer {scraper}") as prometheus:
            assert "embedding_drift_up" in prometheus.get("/metrics").text
            assert prometheus.post("/embeddings", json=vector).status_code == 403
        with client(service, folder, f"Bearer {team}") as writer:
            assert writer.post("/embeddings", json=vector).status_code == 201
            assert writer.post("/embeddings", json=vector | {"model_name": "n"}).status_code == 403
            assert writer.get("/drift").status_code == 403
        with user(service, folder) as someone:
            page = someone.get("/")
            assert page.status_code == 200
            assert "default-src 'none'" in page.headers["content-security-policy"]
            assert page.headers["x-content-type-options"] == "nosniff"
            assert page.headers["x-frame-options"] == "DENY"
            assert page.headers["referrer-policy"] == "same-origin"


WEBHOOK = "https://hooks.slack.com/services/T024/B024/hunter3"
HIDDEN = {
    "password of a user": PASSWORD,
    "its hash": "$2b$04$",
    "Authorization": base64.b64encode(f"prometheus:{PASSWORD}".encode()).decode(),
    "Slack's webhook": "hunter3",
    "password of the database": "hunter4",
}
PATHS = [
    "/",
    "/metrics",
    "/style.css",
    "/drift",
    "/drift/m",
    "/drift/n",
    "/openapi.json",
    "/runbook",
    "/-/ready",
]


def test_no_answer_and_no_line_of_the_log_holds_a_secret(
    config: Path, folder: Path, store: str, connection: psycopg.Connection
) -> None:
    with_password = psycopg.conninfo.make_conninfo(store, password="hunter4")
    text = config.read_text().replace(store, with_password)
    config.write_text(f"{text}alerting: {{slack_webhook: {WEBHOOK}}}\n")
    token = make_token(config, "scraper", "metrics")
    answers: list[httpx2.Response] = []
    with serving(config) as service:
        with user(service, folder) as someone:
            vector = {"model_name": "m", "embedding": [1.0, 2.0]}
            assert someone.post("/embeddings", json=vector).is_success
            wait_for(lambda: someone.get("/drift/m").is_success, "the model")
        for asking in (
            user(service, folder),
            user(service, folder, "hunter5"),
            client(service, folder, f"Bearer {token}"),
            client(service, folder, f"Bearer {token}x"),
            client(service, folder),
        ):
            with asking:
                answers += [asking.get(path) for path in PATHS]
        with user(service, folder) as someone:
            # What nobody foresaw: a column that somebody renamed.
            connection.execute("alter table embedding rename column metadata to other")
            unforeseen = someone.post("/search", json=vector)
            config.write_text(config.read_text().replace("hunter4", "hunter4 x"))
            unusable = someone.post("/-/reload")
        log = service.log.read_text()
    assert {answer.status_code for answer in answers} == {200, 401, 403, 404}
    assert unforeseen.status_code == unusable.status_code == 500
    assert log.count("Traceback") == 1
    assert unforeseen.headers["x-frame-options"] == unusable.headers["x-frame-options"] == "DENY"
    answers += [unforeseen, unusable]
    said = "\n".join(f"{answer.text}\n{answer.headers}" for answer in answers)
    for what, secret in {**HIDDEN, "token": token, "wrong password": "hunter5"}.items():
        assert secret not in said, what
        assert secret not in log, what


MARKUP = "<script>alert(1)</script>"
HOSTILE_NAME = f'm"}} 1\n{MARKUP}&'


def test_user_text_is_escaped_everywhere(config: Path, folder: Path, store: str) -> None:
    async def fill() -> None:
        """Past every check, as another program that writes to the store."""
        async with await AsyncConnection.connect(store, autocommit=True) as own:
            await insert(own, [Batch(HOSTILE_NAME, np.ones((3, 2), np.float32))], 10)

    asyncio.run(fill())
    (folder / "tokens.yaml").touch()
    with serving(config) as service, user(service, folder) as someone:
        vector = {"model_name": "m", "embedding": [1.0, 2.0], "metadata": {MARKUP: MARKUP}}
        assert someone.post("/embeddings", json=vector).is_success
        refused = [
            someone.post("/embeddings", json=vector | {"model_name": MARKUP}),
            someone.post("/embeddings", json={MARKUP: 1}),
            someone.get(f"/drift/{quote(MARKUP)}"),
            someone.get(f"/{quote(MARKUP)}"),
            someone.get("/drift/m", params={"exact": MARKUP}),
        ]
        wait_for(lambda: len(someone.get("/drift").json()["models"]) == 2, "both models")
        wait_for(lambda: someone.get("/-/ready").status_code == 200, "the first poll")
        answers = [someone.get(path) for path in PATHS]
        found = someone.post("/search", json={"model_name": "m", "embedding": [1.0, 2.0]})
    assert [answer.status_code for answer in refused] == [400, 400, 404, 404, 400]
    assert found.json()["matches"][0]["metadata"] == {MARKUP: MARKUP}
    landing = answers[0].text
    assert landing.count("&lt;script&gt;alert(1)&lt;/script&gt;&amp;</a>") == 1
    for answer in [*refused, *answers, found]:
        kind = answer.headers["content-type"].partition(";")[0]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert kind != "text/html" or "<script" not in answer.text
    # A label's value that holds quotes and a line's end begins no sample of its own.
    samples = answers[1].text.splitlines()
    assert not any(line.startswith(("<script", "1")) for line in samples)


def test_an_open_address_without_credentials_is_refused_at_the_start(folder: Path) -> None:
    config = folder / "config.yaml"
    config.write_text("server: {host: 0.0.0.0, port: 0}")
    done = subprocess.run(command(config, "serve"), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "server.allow_unauthenticated" in done.stderr


RELOADED = "embedding_drift_config_last_reload_successful"
RELOADED_AT = "embedding_drift_config_last_reload_success_timestamp_seconds"


def test_a_reload_takes_over_tokens_users_and_headers(config: Path, folder: Path) -> None:
    old = make_token(config, "root", "admin")
    with serving(config, "ingest") as service:
        (folder / "tokens.yaml").unlink()
        new = make_token(config, "root", "admin")
        write_web(
            folder, "battery staple", more="http_server_config: {headers: {X-XSS-Protection: '0'}}"
        )
        with client(service, folder, f"Bearer {old}") as root:
            before = root.get("/metrics").text
            assert 0 < sample(before, RELOADED_AT) < time.time()
            answer = root.post("/-/reload")
            assert answer.text == "reloaded\n"
            # On the connection that is open, too.
            assert root.get("/metrics").status_code == 401
        with user(service, folder) as someone:
            assert someone.get("/metrics").status_code == 401
        with client(service, folder, f"Bearer {new}") as root:
            page = root.get("/metrics")
            assert page.headers["x-xss-protection"] == "0"
            assert sample(page.text, RELOADED) == 1
            assert sample(page.text, RELOADED_AT) > sample(before, RELOADED_AT)
        with user(service, folder, "battery staple") as someone:
            assert someone.get("/metrics").status_code == 200


MISTAKES = [
    ("tokens.yaml", "- {name: hunter2}", "tokens.yaml"),
    ("web.yml", "basic_auth_users: {prometheus: hunter2}", "basic_auth_users.prometheus"),
    ("key.pem", "hunter2", "certificates"),
    ("config.yaml", "database: postgresql://u:hunter2@h/db", "line 1, column 1"),
    ("config.yaml", "database: {connection_string: 'hunter2", "while scanning a quoted scalar"),
    ("tokens.yaml", "- &hunter2 {name: *hunter2}", "anchors"),
    ("web.yml", "basic_auth_users: {}", "take effect only at the start"),
    ("web.yml", f"tls_server_config: {{{MUTUAL_TLS}}}", "take effect only at the start"),
]


def test_a_file_that_cannot_be_used_is_refused_and_the_old_ones_stay_in_force(
    config: Path, folder: Path
) -> None:
    token = make_token(config, "root", "admin")
    with serving(config, "ingest") as service, client(service, folder, f"Bearer {token}") as root:
        at = sample(root.get("/metrics").text, RELOADED_AT)
        for name, text, reason in MISTAKES:
            good = (folder / name).read_text()
            (folder / name).write_text(text)
            refused = root.post("/-/reload")
            assert refused.status_code == 500
            assert reason in refused.text
            assert "hunter2" not in refused.text + service.log.read_text()
            page = root.get("/metrics").text
            assert (sample(page, RELOADED), sample(page, RELOADED_AT)) == (0, at)
            with user(service, folder) as someone:
                assert someone.get("/metrics").status_code == 200
            (folder / name).write_text(good)
        assert root.post("/-/reload").is_success
        assert sample(root.get("/metrics").text, RELOADED) == 1


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_needs_a_certificate_by_the_authority_of_the_last_reload(
    config: Path, folder: Path, version: ssl.TLSVersion
) -> None:
    first, second = trustme.CA(), trustme.CA()
    certify(first, folder)
    (folder / "tokens.yaml").touch()
    write_web(folder, tls=f"{MUTUAL_TLS}, max_version: {version.name.replace('v1_', '1')}")

    def lets_in(service: Service, own: trustme.LeafCert | None) -> bool:
        with client(service, folder, own=own) as connecting:
            try:
                return connecting.get("/-/healthy").is_success
            except (httpx2.NetworkError, httpx2.RemoteProtocolError):
                return False

    with serving(config, "ingest") as service:
        known, unknown = first.issue_cert("a@b.example"), second.issue_cert("a@b.example")
        assert not lets_in(service, None)
        assert not lets_in(service, unknown)
        assert lets_in(service, known)
        with client(service, folder, own=known) as open_before:
            assert open_before.get("/-/healthy").is_success
            certify(second, folder)
            service.process.send_signal(signal.SIGHUP)
            wait_for(lambda: "configuration reloaded" in service.log.read_text(), "the reload")
            assert open_before.get("/-/healthy").is_success
        # Clients now trust the second authority alone: the service shows the new certificate.
        assert lets_in(service, unknown)
        assert not lets_in(service, known)
        assert not lets_in(service, None)
