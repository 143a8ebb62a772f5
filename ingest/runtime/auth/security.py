"""Security: TLS, credentials, names and headers, read from the settings and the files they name."""

from __future__ import annotations

import ipaddress
import logging
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ingest.runtime.auth import tokens, webconfig
from ingest.runtime.auth.guard import Guard
from ingest.runtime.auth.sites import Sites
from ingest.runtime.auth.webconfig import WebConfig
from ingest.runtime.errors import Problem, SettingsError
from ingest.runtime.settings.reload import LiveSettings
from ingest.runtime.settings.settings import ServerSettings, Settings

_log = logging.getLogger(__name__)

PAGE_HEADERS: Mapping[str, str] = {
    # The pages load the style sheet of this service, and load or run nothing else.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src data:;"
        " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}


@dataclass(frozen=True)
class Security:
    """Credentials, names, TLS, and headers that the operator adds to every answer."""

    guard: Guard = field(default_factory=Guard)
    sites: Sites = field(default_factory=Sites)
    tls: ssl.SSLContext | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def encoded_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers as bytes, encoded once."""
        return _encoded(self.headers)

    @cached_property
    def encoded_page_headers(self) -> list[tuple[bytes, bytes]]:
        """Headers for browsers, except those that the operator sets."""
        own = {name for name, _ in self.encoded_headers}
        return [pair for pair in _encoded(PAGE_HEADERS) if pair[0] not in own]


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()
    ]


class Protection:
    """The current security. A reload replaces it as a whole.

    Parameters
    ----------
    security : Security
        Security at the start.

    Attributes
    ----------
    security : Security
        The current security.
    tls : ssl.SSLContext or None
        TLS of the listener, which keeps it. Each handshake switches to the current one.
    """

    def __init__(self, security: Security) -> None:
        self.security = security
        self.tls = security.tls
        if self.tls is not None:
            # The listener's own context is not changed: it cannot forget a client_ca_file, and a
            # handshake could see half of a change.
            self.tls.sni_callback = self._choose

    @classmethod
    def of(cls, live: LiveSettings) -> Protection:
        """Read the files that the settings name, now and at each reload.

        Raises
        ------
        SettingsError
            As :func:`read` does.
        """
        protection = cls(read(live.settings.server))
        live.prepare(protection._prepare)
        return protection

    def _prepare(self, settings: Settings) -> Callable[[], None]:
        security = read(settings.server)
        if _fixed(security) != _fixed(self.security):
            raise SettingsError(
                "server.web_config_file: with or without tls_server_config, and its"
                " client_auth_type, min_version and max_version, take effect only at the start;"
                " restart the service"
            )

        def put_in_force() -> None:
            self.security = security

        return put_in_force

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        assert self.security.tls is not None
        connection.context = self.security.tls


def _fixed(security: Security) -> tuple[object, ...] | None:
    """Return what a handshake takes from the context of the listener only."""
    tls = security.tls
    return None if tls is None else (tls.verify_mode, tls.minimum_version, tls.maximum_version)


def read(settings: ServerSettings) -> Security:
    """Read the files that the settings name.

    Raises
    ------
    SettingsError
        If files are invalid, which names all of them, or if clients need no credentials on an
        address other than loopback while ``server.allow_unauthenticated`` is not set.
    """
    file = Path(settings.web_config_file or "")
    config, tls = WebConfig(), None
    known: list[tokens.Token] = []
    errors: dict[str, SettingsError] = {}
    with _collected(errors, "server.web_config_file"):
        if settings.web_config_file:
            config = webconfig.read(file)
        if config.tls_server_config is not None:
            tls = webconfig.tls_context(config.tls_server_config, file.parent)
    with _collected(errors, "server.tokens_file"):
        if settings.tokens_file:
            known = tokens.read(Path(settings.tokens_file))
    if len(errors) > 1:
        # Keys of several files are listed together, so each says of which it is.
        raise SettingsError(
            "\n".join(error.detail for error in errors.values()),
            [
                Problem(f"{setting}: {problem.pointer}", problem.reason)
                for setting, error in errors.items()
                for problem in error.problems
            ],
        )
    for error in errors.values():
        raise error
    is_open = not (config.basic_auth_users or known or config.requires_client_certificate)
    on_loopback = _is_loopback(settings.host)
    if not on_loopback:
        if is_open:
            _check_meant(settings)
        elif tls is None:
            _log.warning("credentials and data are sent unencrypted unless a proxy adds TLS")
    headers = {str(name): value for name, value in config.http_server_config.headers.items()}
    # A foreign page has no credentials, so it gains nothing by a name of its own.
    checks_names = settings.allowed_hosts or (on_loopback and is_open)
    return Security(
        Guard(config.basic_auth_users, known),
        Sites(settings.allowed_hosts if checks_names else None, on_loopback),
        tls,
        headers,
    )


@contextmanager
def _collected(errors: dict[str, SettingsError], setting: str) -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        errors[setting] = error


def _check_meant(settings: ServerSettings) -> None:
    if not settings.allow_unauthenticated:
        raise SettingsError(
            f"server.host {settings.host} is not loopback, and clients need no credentials: set"
            " server.tokens_file or server.web_config_file, or server.allow_unauthenticated: true"
            " if something else restricts access"
        )
    _log.warning("any client that reaches this address may read and write everything")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
