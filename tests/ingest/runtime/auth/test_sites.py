"""Sites: hosts that are answered, and pages that may send requests."""

from __future__ import annotations

import pytest

from ingest.runtime.auth.sites import Sites
from ingest.runtime.errors import Forbidden, PayloadError

LOOPBACK = ["localhost", "LOCALHOST:10910", "localhost.", "127.0.0.1", "127.9.9.9:80", "[::1]:1"]
ADDRESSES = ["10.1.2.3:10910", "[fd00::1]:10910", "203.0.113.9"]
FOREIGN = ["evil.example", "evil.example:10910", "localhost.evil.example", "127.0.0.1.evil.example"]

ON_LOOPBACK = Sites(["drift.example.org"], on_loopback=True)
ELSEWHERE = Sites(["drift.example.org"])


def check(sites: Sites, method: str = "GET", **headers: str) -> None:
    """Check a request; a header's name has underscores for hyphens."""
    sites.check(
        method,
        {name.replace("_", "-").encode(): [value.encode()] for name, value in headers.items()},
    )


@pytest.mark.parametrize("host", [*LOOPBACK, "drift.example.org", "Drift.Example.org:443"])
def test_loopback_and_configured_names_are_answered(host: str) -> None:
    check(ON_LOOPBACK, host=host)
    check(ELSEWHERE, host=host)


@pytest.mark.parametrize("host", FOREIGN)
def test_other_names_are_not_answered(host: str) -> None:
    for sites in (ON_LOOPBACK, ELSEWHERE):
        with pytest.raises(Forbidden, match=r"server\.allowed_hosts"):
            check(sites, host=host)


@pytest.mark.parametrize("host", ADDRESSES)
def test_addresses_are_answered_except_on_loopback(host: str) -> None:
    """Probes of Kubernetes and scrapes name the address of the pod."""
    check(ELSEWHERE, host=host)
    with pytest.raises(Forbidden):
        check(ON_LOOPBACK, host=host)


@pytest.mark.parametrize("host", [*LOOPBACK, *ADDRESSES, *FOREIGN])
def test_any_host_is_answered_where_names_are_not_checked(host: str) -> None:
    check(Sites(), host=host)


@pytest.mark.parametrize(
    "host", ["", "a b", "a,b", "http://localhost", "localhost:x", "u@h", "[::1"]
)
def test_an_invalid_host_is_an_error(host: str) -> None:
    with pytest.raises(PayloadError, match="Host"):
        check(Sites(), host=host)


def test_a_missing_or_double_host_is_an_error() -> None:
    for hosts in ([], [b"localhost", b"localhost"]):
        with pytest.raises(PayloadError, match="it needs one"):
            Sites().check("GET", {b"host": hosts})


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": "http://evil.example"},
        {"origin": "http://localhost:3000"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://["},
        {"origin": "http://[::1"},
        {"origin": "ftp://localhost:10910"},
        {"origin": "http://localhost:10910/path"},
        {"sec_fetch_site": "cross-site", "origin": "http://localhost:10910"},
    ],
)
def test_a_foreign_page_changes_nothing(headers: dict[str, str]) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        with pytest.raises(Forbidden, match="another origin"):
            check(Sites(), method, host="localhost:10910", **headers)
    check(Sites(), "GET", host="localhost:10910", **headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec_fetch_site": "same-origin", "origin": "http://public.example"},
        {"sec_fetch_site": "none"},
        {"origin": "http://localhost:10910"},
        {"origin": "https://LOCALHOST:10910"},
    ],
)
def test_own_pages_and_clients_that_are_no_browsers_may_change_something(
    headers: dict[str, str],
) -> None:
    check(Sites(), "POST", host="localhost:10910", **headers)
