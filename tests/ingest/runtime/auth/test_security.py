"""Security: when credentials are required, and errors in its files."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from ingest.runtime.auth import security
from ingest.runtime.errors import Forbidden, SettingsError
from ingest.runtime.settings.settings import ServerSettings

HASH = "$2b$04$" + "a" * 53


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_needs_no_credentials(host: str) -> None:
    assert security.read(ServerSettings(host=host)).guard.challenges == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org"])
def test_other_addresses_need_credentials_unless_disabled_explicitly(host: str) -> None:
    with pytest.raises(SettingsError, match=r"server\.allow_unauthenticated"):
        security.read(ServerSettings(host=host))
    security.read(ServerSettings(host=host, allow_unauthenticated=True))


def test_each_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    files = {"web_config_file": tmp_path / "web.yml", "tokens_file": tmp_path / "tokens.yml"}
    settings = ServerSettings.model_validate({key: str(file) for key, file in files.items()})
    reason = "cannot be read: No such file or directory"
    with pytest.raises(SettingsError) as caught:
        security.read(settings)
    assert str(caught.value).split("\n") == [
        f"{file} (server.{key}) {reason}" for key, file in files.items()
    ]
    files["web_config_file"].write_text("tls_server_config: {cert_file: absent, key_file: absent}")
    with pytest.raises(SettingsError) as caught:
        security.read(settings)
    first, second = str(caught.value).split("\n")
    assert "absent" in first
    assert second == f"{files['tokens_file']} (server.tokens_file) {reason}"


def test_each_wrong_key_of_both_files_is_listed_with_its_file(tmp_path: Path) -> None:
    web, tokens = tmp_path / "web.yml", tmp_path / "tokens.yml"
    web.write_text("tls_config: {}\nbasic_auth_users: {prometheus: hunter2}")
    tokens.write_text("- {name: sender, sha256: hunter2, scopes: [admin]}")
    with pytest.raises(SettingsError) as caught:
        security.read(ServerSettings(web_config_file=str(web), tokens_file=str(tokens)))
    assert [problem.pointer for problem in caught.value.problems] == [
        "server.web_config_file: basic_auth_users.prometheus",
        "server.web_config_file: tls_config",
        "server.tokens_file: 0.sha256",
    ]
    assert caught.value.detail.split("\n") == [
        f"{web} (server.web_config_file) is invalid:",
        f"{tokens} (server.tokens_file) is invalid:",
    ]


EVIL = {b"host": [b"evil.example"]}


@pytest.mark.parametrize(
    ("settings", "is_answered"),
    [
        ({"host": "127.0.0.1"}, False),
        # A Service of Kubernetes has any name.
        ({"host": "0.0.0.0", "allow_unauthenticated": True}, True),
        (
            {"host": "0.0.0.0", "allow_unauthenticated": True, "allowed_hosts": ["ingest"]},
            False,
        ),
        ({"host": "127.0.0.1", "allowed_hosts": ["evil.example"]}, True),
    ],
)
def test_names_are_checked_on_loopback_and_where_they_are_configured(
    settings: dict[str, Any], is_answered: bool
) -> None:
    sites = security.read(ServerSettings(**settings)).sites
    if is_answered:
        sites.check("GET", EVIL)
    else:
        with pytest.raises(Forbidden):
            sites.check("GET", EVIL)


def test_any_name_is_answered_where_clients_need_credentials(tmp_path: Path) -> None:
    file = tmp_path / "web.yml"
    file.write_text(f"basic_auth_users: {{prometheus: {HASH}}}")
    security.read(ServerSettings(web_config_file=str(file))).sites.check("GET", EVIL)


def test_users_are_sufficient(tmp_path: Path) -> None:
    file = tmp_path / "web.yml"
    file.write_text(f"basic_auth_users: {{prometheus: {HASH}}}")
    found = security.read(ServerSettings(host="0.0.0.0", web_config_file=str(file)))
    assert found.guard.challenges[0].startswith("Basic")
    assert found.tls is None


def test_client_certificates_are_sufficient(tmp_path: Path) -> None:
    authority = trustme.CA()
    own = authority.issue_cert("localhost")
    own.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    own.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    file = tmp_path / "web.yml"
    file.write_text(
        "tls_server_config: {cert_file: cert.pem, key_file: key.pem, client_ca_file: ca.pem,"
        " client_auth_type: RequireAndVerifyClientCert, min_version: TLS13}\n"
        "http_server_config: {headers: {X-Frame-Options: SAMEORIGIN}}"
    )
    found = security.read(ServerSettings(host="0.0.0.0", web_config_file=str(file)))
    assert found.tls is not None
    assert found.tls.verify_mode == ssl.CERT_REQUIRED
    assert found.tls.minimum_version == ssl.TLSVersion.TLSv1_3
    assert found.tls.num_tickets == 0  # a resumed session shows no certificate
    assert found.headers == {"X-Frame-Options": "SAMEORIGIN"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tls_server_config: {cert_file: a.pem}", "key_file"),
        ("tls_server_config: {cert_file: a.pem, key_file: b.pem}", "are invalid"),
        ("tls_server_config: {cert_file: a, key_file: b, client_ca_file: c}", "go together"),
        ("basic_auth_users: {prometheus: hunter2}", "basic_auth_users.prometheus"),
        (f"basic_auth_users: {{prometheus: {HASH.replace('04', '32')}}}", "prometheus"),
        ("http_server_config: {http2: true}", "http_server_config.http2"),
        ("tls_config: {}", "tls_config"),
        ("- [", "not valid YAML"),
    ],
)
def test_an_error_names_the_mistake_but_quotes_no_value(
    tmp_path: Path, text: str, reason: str
) -> None:
    file = tmp_path / "web.yml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=reason) as refused:
        security.read(ServerSettings(web_config_file=str(file)))
    assert "hunter2" not in str(refused.value)


def test_a_missing_file_is_named_with_its_setting() -> None:
    with pytest.raises(SettingsError, match=r"server\.web_config_file"):
        security.read(ServerSettings(web_config_file="/none/web.yml"))
