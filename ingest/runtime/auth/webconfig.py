"""Web configuration: TLS, users and headers, read from a file in Prometheus's format.

Format: https://prometheus.io/docs/prometheus/latest/configuration/https/. Keys that Python's TLS or
this server do not support are refused by name.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, model_validator

from ingest.runtime.errors import SettingsError
from ingest.runtime.settings.document import read as read_document

Version = Literal["TLS12", "TLS13"]
ClientAuth = Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"]
Header = Literal[
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
]
HeaderValue = Annotated[str, StringConstraints(pattern=r"^[ -~]+$")]
_COST = r"(0[4-9]|[12]\d|3[01])"
BcryptHash = Annotated[str, StringConstraints(pattern=rf"^\$2[aby]\${_COST}\$[./A-Za-z0-9]{{53}}$")]

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CLIENT_CERTIFICATE = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class TlsConfig(_Section):
    """Certificates of the server and of clients. Paths are relative to the file."""

    cert_file: str
    key_file: str
    client_ca_file: str | None = None
    client_auth_type: ClientAuth = "NoClientCert"
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"

    @model_validator(mode="after")
    def _is_whole(self) -> TlsConfig:
        if (self.client_auth_type == "NoClientCert") != (self.client_ca_file is None):
            raise ValueError("client_ca_file and client_auth_type go together: give both or none")
        return self


class HttpConfig(_Section):
    """Headers added to every answer. HTTP/2 is not supported."""

    http2: Literal[False] = False
    headers: dict[Header, HeaderValue] = {}


class WebConfig(_Section):
    """The whole file."""

    tls_server_config: TlsConfig | None = None
    http_server_config: HttpConfig = HttpConfig()
    basic_auth_users: dict[str, BcryptHash] = {}

    @property
    def requires_client_certificate(self) -> bool:
        """Whether clients need a certificate."""
        tls = self.tls_server_config
        return tls is not None and tls.client_auth_type == "RequireAndVerifyClientCert"


def read(file: Path) -> WebConfig:
    """Read and check a web configuration file.

    Raises
    ------
    SettingsError
        Names each wrong key, never its value, because it may be a password instead of its hash.
    """
    document = read_document(file, "server.web_config_file")
    try:
        return WebConfig.model_validate({} if document.values is None else document.values)
    except ValidationError as error:
        problems = list(map(document.problem, error.errors()))
        raise SettingsError(f"{file} (server.web_config_file) is invalid:", problems) from None


def tls_context(config: TlsConfig, folder: Path) -> ssl.SSLContext:
    """Load the certificates. Relative paths start at ``folder``.

    Raises
    ------
    SettingsError
        If one cannot be loaded.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[config.min_version]
    context.maximum_version = _VERSIONS[config.max_version]
    context.verify_mode = _CLIENT_CERTIFICATE[config.client_auth_type]
    try:
        # With no password, OpenSSL would ask for one on the terminal if the key is encrypted.
        context.load_cert_chain(folder / config.cert_file, folder / config.key_file, password="")
        if config.client_ca_file is not None:
            context.load_verify_locations(folder / config.client_ca_file)
            # A resumed session shows no certificate, although its authority may have been removed.
            # TLS 1.2 can also resume without tickets, which Python cannot turn off.
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"tls_server_config: the certificates ({config.cert_file}, {config.key_file},"
            f" {config.client_ca_file or 'no client_ca_file'}) are invalid: {error}"
        ) from error
    return context
