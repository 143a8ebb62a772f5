"""The application: unexpected errors, and endpoints that are called without the router."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import pytest
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from ingest.runtime.auth import security
from ingest.runtime.auth.guard import Guard
from ingest.runtime.auth.security import PAGE_HEADERS, Protection, Security
from ingest.runtime.http import application, openapi
from ingest.runtime.http.openapi import Description
from ingest.runtime.settings.configuration import load
from ingest.runtime.settings.reload import LiveSettings
from ingest.runtime.settings.settings import Settings


class Broken:
    """A half whose endpoints fail: one at once, one amid its answer."""

    def __init__(self, reason: str | None = None) -> None:
        self._reason = reason
        self.routes = [
            Route("/at-once", at_once),
            Route("/elsewhere", elsewhere),
            Route("/amid", amid),
        ]
        self.endpoints: application.Endpoints = {}
        self.refusals: application.Refusals = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        yield

    def not_ready(self) -> str | None:
        return self._reason

    def reconfigure(self, settings: Settings) -> None:
        pass

    def described(self) -> Description:
        return Description({})


async def at_once(_: Request) -> Response:
    raise ZeroDivisionError("hunter2")


async def elsewhere(_: Request) -> Response:
    raise ZeroDivisionError("another")


async def amid(_: Request) -> Response:
    async def half() -> AsyncIterator[bytes]:
        yield b"the first half"
        raise ZeroDivisionError("hunter2")

    return StreamingResponse(half())


@pytest.fixture
def client() -> TestClient:
    registry, live = CollectorRegistry(), LiveSettings(Settings)
    protection = Protection(Security(headers={"X-Operator": "ours"}))
    return TestClient(application.application(registry, live, Broken(), protection=protection))


def test_an_unexpected_error_is_a_problem_with_all_headers_and_logged_once(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    answer = client.get("/at-once")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "hunter2" not in answer.text
    for name, value in {"X-Operator": "ours", **PAGE_HEADERS}.items():
        assert answer.headers[name] == value
    [record] = [record for record in caplog.records if record.exc_info]
    assert (record.getMessage(), vars(record)["path"]) == ("request failed", "/at-once")


def test_the_same_unexpected_error_of_many_requests_is_logged_once_a_minute(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        assert client.get("/at-once").status_code == 500
    assert caplog.text.count("request failed") == 1
    client.get("/elsewhere")
    assert caplog.text.count("ZeroDivisionError: another") == 1


def test_an_error_during_an_answer_is_raised_to_the_server(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The server logs it and hangs up."""
    with pytest.raises(ZeroDivisionError):
        client.get("/amid")
    assert "request failed" not in caplog.text


@pytest.mark.parametrize(
    ("guard", "said"),
    [
        (Guard(), "store: no server at db-7, port 5432"),
        (Guard({"operator": "$2b$04$" + "a" * 53}), "not ready; the service's log says why"),
    ],
    ids=["without credentials", "with credentials"],
)
def test_why_a_service_is_not_ready_is_told_where_everybody_may_know_everything(
    guard: Guard, said: str
) -> None:
    registry, live = CollectorRegistry(), LiveSettings(Settings)
    protection = Protection(Security(guard))
    half = Broken("store: no server at db-7, port 5432")
    client = TestClient(application.application(registry, live, half, protection=protection))
    answer = client.get("/-/ready")
    assert (answer.status_code, answer.text) == (503, f"{said}\n")


async def direct(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(f"{scope['method']} {scope['path']}")(scope, receive, send)


def test_endpoints_are_called_by_method_and_exact_path() -> None:
    half = Broken()
    half.endpoints = {("POST", "/direct"): direct}
    registry, live = CollectorRegistry(), LiveSettings(Settings)
    client = TestClient(application.application(registry, live, half))
    assert client.post("/direct?x=1").text == "POST /direct"
    refused = client.get("/direct")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert client.post("/direct/").status_code == 404


@pytest.mark.parametrize("path", ["/-/reload", "/direct", "/-/healthy", "/none"])
def test_a_foreign_page_reaches_no_endpoint(path: str) -> None:
    called = []
    half = Broken()

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        called.append(scope["path"])

    half.endpoints = {("POST", "/direct"): endpoint}
    live = LiveSettings(Settings)
    live.subscribe(called.append)
    protection = Protection(security.read(Settings().server))
    app = application.application(CollectorRegistry(), live, half, protection=protection)
    client = TestClient(app, base_url="http://127.0.0.1:10910")
    foreign: list[dict[str, str]] = [
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ]
    for headers in foreign:
        refused = client.post(path, headers=headers)
        assert refused.status_code == 403
        assert refused.headers["content-type"] == "application/problem+json"
    assert called == []
    assert client.get("/-/healthy", headers={"Host": "evil.example"}).status_code == 403
    assert client.post("/-/reload").status_code == 200


def test_a_rejected_reload_is_answered_with_its_reason() -> None:
    ports = count(1)
    live = LiveSettings(lambda: load(flags={"server.port": next(ports)}))
    client = TestClient(application.application(CollectorRegistry(), live))
    answer = client.post("/-/reload")
    assert answer.status_code == 500
    told = answer.json()
    assert told["title"] == "Configuration not reloaded"
    assert [error["pointer"] for error in told["errors"]] == ["server.port"]


def test_the_description_is_made_once_for_the_settings_in_force(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers = count(1)
    monkeypatch.setattr(openapi, "document", lambda *_: {"n": next(numbers)})
    live = LiveSettings(Settings)
    client = TestClient(application.application(CollectorRegistry(), live, Broken()))
    assert [client.get("/openapi.json").json() for _ in range(3)] == 3 * [{"n": 1}]
    live.reload()
    assert [client.get("/openapi.json").json() for _ in range(3)] == 3 * [{"n": 2}]


def test_a_path_may_answer_errors_in_its_own_way() -> None:
    half = Broken()
    half.refusals = {
        "/at-once": lambda error, scope: Response(f"{scope['method']}: {error.title}", error.status)
    }
    client = TestClient(application.application(CollectorRegistry(), LiveSettings(Settings), half))
    own, usual = client.get("/at-once"), client.get("/nowhere")
    assert (own.status_code, own.text) == (500, "GET: Internal error")
    assert usual.headers["content-type"] == "application/problem+json"
