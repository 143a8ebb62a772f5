"""Security: what the server settings say of TLS, credentials and headers, ready for use."""

from __future__ import annotations

import ipaddress
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ingest.runtime import tokens, webconfig
from ingest.runtime.errors import SettingsError
from ingest.runtime.guard import Guard
from ingest.runtime.settings import ServerSettings
from ingest.runtime.webconfig import WebConfig

_log = logging.getLogger(__name__)

PAGE_HEADERS: Mapping[str, str] = {
    # The pages have a style sheet of their own and nothing else to load or run.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Security:
    """Who may ask (``guard``), how (``tls``), and the operator's headers for every answer."""

    guard: Guard = field(default_factory=Guard)
    tls: ssl.SSLContext | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def read(settings: ServerSettings) -> Security:
    """Read the files that the settings name.

    Raises
    ------
    SettingsError
        If a file cannot be used, or if everyone who reaches the address could do everything and
        ``server.allow_unauthenticated`` does not say that this is meant.
    """
    file = Path(settings.web_config_file or "")
    config = webconfig.read(file) if settings.web_config_file else WebConfig()
    known = tokens.read(Path(settings.tokens_file)) if settings.tokens_file else []
    has_credentials = bool(config.basic_auth_users or known)
    if not _is_loopback(settings.host):
        if not has_credentials and not config.requires_client_certificate:
            _check_meant(settings)
        elif config.tls_server_config is None:
            _log.warning("credentials and data travel unencrypted unless a proxy adds TLS")
    tls = config.tls_server_config
    headers = {str(name): value for name, value in config.http_server_config.headers.items()}
    return Security(
        Guard(config.basic_auth_users, known),
        None if tls is None else webconfig.tls_context(tls, file.parent),
        headers,
    )


def _check_meant(settings: ServerSettings) -> None:
    if not settings.allow_unauthenticated:
        raise SettingsError(
            f"server.host {settings.host} is not loopback, and nothing asks for credentials: set"
            " server.tokens_file or server.web_config_file, or server.allow_unauthenticated: true"
            " where something else keeps strangers out"
        )
    _log.warning("whoever reaches this address may read and write everything")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
