"""The web configuration: Prometheus's format, and errors in it."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from ingest.runtime.auth import webconfig
from ingest.runtime.auth.webconfig import WebConfig
from ingest.runtime.errors import SettingsError

HASH = "$2b$04$" + "a" * 53


def read(folder: Path, text: str) -> WebConfig:
    file = folder / "web.yml"
    file.write_text(text)
    return webconfig.read(file)


def test_an_empty_file_requires_nothing(tmp_path: Path) -> None:
    config = read(tmp_path, "")
    assert config == WebConfig()
    assert not config.requires_client_certificate


def test_only_client_certificates_that_are_required_count_as_such(tmp_path: Path) -> None:
    for kind, required in (
        ("VerifyClientCertIfGiven", False),
        ("RequireAndVerifyClientCert", True),
    ):
        config = read(
            tmp_path,
            "tls_server_config: {cert_file: a, key_file: b, client_ca_file: c,"
            f" client_auth_type: {kind}}}",
        )
        assert config.requires_client_certificate is required


def test_certificates_are_read_relative_to_the_folder(tmp_path: Path) -> None:
    own = trustme.CA().issue_cert("localhost")
    own.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    own.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    config = read(
        tmp_path,
        "tls_server_config: {cert_file: cert.pem, key_file: key.pem, max_version: TLS12}",
    )
    assert config.tls_server_config is not None
    context = webconfig.tls_context(config.tls_server_config, tmp_path)
    assert context.verify_mode == ssl.CERT_NONE
    assert context.maximum_version == ssl.TLSVersion.TLSv1_2
    with pytest.raises(SettingsError, match=r"cert\.pem"):
        webconfig.tls_context(config.tls_server_config, tmp_path / "other")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tls_server_config: {cert_file: a.pem}", "key_file"),
        ("tls_server_config: {cert_file: a, key_file: b, client_ca_file: c}", "go together"),
        ("basic_auth_users: {prometheus: hunter2}", "basic_auth_users.prometheus"),
        (f"basic_auth_users: {{prometheus: {HASH.replace('04', '32')}}}", "prometheus"),
        ("http_server_config: {http2: true}", "http_server_config.http2"),
        ("http_server_config: {headers: {X-Other: a}}", "headers"),
        ("tls_config: {}", "tls_config"),
        ("- [", "not valid YAML"),
    ],
)
def test_an_error_names_the_mistake_but_quotes_no_value(
    tmp_path: Path, text: str, reason: str
) -> None:
    with pytest.raises(SettingsError, match=reason) as refused:
        read(tmp_path, text)
    assert "hunter2" not in str(refused.value)
