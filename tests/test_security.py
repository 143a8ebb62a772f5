"""The guarded service: TLS, users and tokens, seen from outside."""

from __future__ import annotations

import json
import ssl
import subprocess
from pathlib import Path

import bcrypt
import httpx2
import numpy as np
import pytest
import trustme

from tests.service import Service, command, serving

PASSWORD = "correct horse"
CONFIG = """
monitoring: {{poll_interval: 0.1}}
database: {{data_directory: {folder}/data}}
server:
  port: 0
  host: 0.0.0.0
  tokens_file: {folder}/tokens.yaml
  web_config_file: {folder}/web.yml
"""
WEB = """
tls_server_config: {{cert_file: cert.pem, key_file: key.pem}}
basic_auth_users: {{prometheus: "{password}"}}
"""


@pytest.fixture
def authority(folder: Path) -> trustme.CA:
    authority = trustme.CA()
    own = authority.issue_cert("localhost", "127.0.0.1")
    own.private_key_pem.write_to_path(str(folder / "key.pem"))
    own.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    return authority


@pytest.fixture
def config(folder: Path, authority: trustme.CA) -> Path:
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (folder / "web.yml").write_text(WEB.format(password=hashed))
    file = folder / "config.yaml"
    file.write_text(CONFIG.format(folder=folder))
    return file


def make_token(config: Path, name: str, scope: str) -> str:
    arguments = ["token", str(config.parent / "tokens.yaml"), name, "--scope", scope]
    line = command(config, *arguments)[:-2]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()


def client(service: Service, folder: Path, authorization: str = "") -> httpx2.Client:
    headers = {"Authorization": authorization} if authorization else {}
    url = service.url.replace("0.0.0.0", "127.0.0.1")
    trusting = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    return httpx2.Client(base_url=url, verify=trusting, headers=headers)


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
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
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
        with client(service, folder) as user:
            user.auth = httpx2.BasicAuth("prometheus", PASSWORD)
            page = user.get("/")
            assert page.status_code == 200
            assert "default-src 'none'" in page.headers["content-security-policy"]
        log = service.log.read_text()
    for secret in (scraper, team, PASSWORD):
        assert secret not in log


def test_an_open_address_without_credentials_is_refused_at_the_start(folder: Path) -> None:
    config = folder / "config.yaml"
    config.write_text("server: {host: 0.0.0.0, port: 0}")
    done = subprocess.run(command(config, "serve"), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "server.allow_unauthenticated" in done.stderr
