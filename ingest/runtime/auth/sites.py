"""Sites: which names the service answers to, and whose pages may have a browser send requests.

A foreign page can use the browser of a machine that reaches the service to send requests that
change something, although it cannot read their answers. And a name of an attacker that resolves to
the service's address (DNS rebinding) makes a foreign page one of the service's own, which may also
read.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

from ingest.runtime.errors import Forbidden, PayloadError

_HOST = re.compile(r"(?P<name>[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?")
_KNOWN_HOSTS = 64
"""Hosts that are remembered as answered."""
_CHANGES_NOTHING = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN = frozenset({"same-origin", "none"})
"""``Sec-Fetch-Site`` of requests by the service's own pages, and by the user."""


class Sites:
    """Checks the headers with which browsers tell where a request goes and comes from.

    Parameters
    ----------
    names : collection of str or None
        Names that are answered, besides localhost and addresses. None answers any name.
    on_loopback : bool
        Whether the service listens on loopback. If names are checked there, so are addresses:
        only those of loopback are answered. Elsewhere any address is, because probes of Kubernetes
        and Prometheus use the pod's. A page cannot make an address resolve to another one.
    """

    def __init__(self, names: Collection[str] | None = None, on_loopback: bool = False) -> None:
        self._names = None if names is None else {*map(str.lower, names), "localhost"}
        self._on_loopback = on_loopback
        # A client sends the same host each time, and addresses are slow to parse.
        self._checked = lru_cache(maxsize=_KNOWN_HOSTS)(self._check_host)

    def check(self, method: str, headers: Mapping[bytes, Sequence[bytes]]) -> None:
        """Check where a request goes, and where it comes from if it may change something.

        Parameters
        ----------
        method : str
        headers : mapping
            Values by lower-case name.

        Raises
        ------
        PayloadError
            If there is not exactly one valid ``Host``.
        Forbidden
            If the host's name is not answered, or the request comes from a foreign page.
        """
        hosts = headers.get(b"host", ())
        if len(hosts) != 1:
            raise PayloadError(f"the request has {len(hosts)} Host headers; it needs one")
        host = self._checked(hosts[0])
        if method not in _CHANGES_NOTHING and not _is_own(host, headers):
            raise Forbidden(
                "a page of another origin sent this request; allowed are the service's own pages"
                " and clients that are no browsers"
            )

    def _check_host(self, sent: bytes) -> str:
        """Check the header, and return it as text."""
        host = sent.decode("latin-1")
        found = _HOST.fullmatch(host)
        if found is None:
            raise PayloadError("the Host header is not a name or address with an optional port")
        if not self._answers_to(found["name"]):
            raise Forbidden(
                f"Host {found['name'][:80]} is not answered; allowed are localhost, loopback"
                " addresses and the names in server.allowed_hosts"
            )
        return host

    def _answers_to(self, name: str) -> bool:
        if self._names is None:
            return True
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name.lower().rstrip(".") in self._names
        return address.is_loopback or not self._on_loopback or name in self._names


def _is_own(host: str, headers: Mapping[bytes, Sequence[bytes]]) -> bool:
    """Return whether no page or one of the service itself sent a request.

    Clients other than browsers send neither header. A browser that does not know
    ``Sec-Fetch-Site`` sends ``Origin``, which has to name the host of the request.
    """
    if sites := headers.get(b"sec-fetch-site"):
        return {site.decode("latin-1") for site in sites} <= _OWN
    origins = {origin.decode("latin-1").lower() for origin in headers.get(b"origin", ())}
    return origins <= {f"{scheme}://{host}".lower() for scheme in ("http", "https")}
