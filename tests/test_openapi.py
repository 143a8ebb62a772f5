"""The OpenAPI description: valid, complete, and true of a running service."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote

import bcrypt
import httpx2
import jsonschema
import numpy as np
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from exporter.http.app import Exporter
from exporter.http.showing import Showing
from exporter.monitor.monitor import Monitor
from ingest.formats import json
from ingest.http.app import Ingest, Searching
from ingest.pipeline.pipeline import Pipeline
from ingest.runtime.auth import security, tokens
from ingest.runtime.auth.guard import Guard
from ingest.runtime.auth.security import Protection, Security
from ingest.runtime.http import application
from ingest.runtime.settings.configuration import load
from ingest.runtime.settings.reload import LiveSettings
from ingest.runtime.settings.settings import Settings
from tests import openapi_bodies
from tests.service import serving, wait_for

Json = dict[str, Any]


def _ingest(store: str, settings: Settings, registry: CollectorRegistry) -> Ingest:
    return Ingest(Pipeline(store, settings, registry), settings)


def _exporter(store: str, settings: Settings, registry: CollectorRegistry) -> Exporter:
    return Exporter(Monitor(store, settings), registry)


def _showing(store: str, settings: Settings, _: CollectorRegistry) -> Showing:
    return Showing(store, settings)


def _searching(store: str, settings: Settings, registry: CollectorRegistry) -> Searching:
    return Searching(Pipeline(store, settings, registry), settings)


Make = Callable[[str, Settings, CollectorRegistry], application.Half]

ROLES: dict[str, tuple[Make, ...]] = {
    "serve": (_ingest, _exporter),
    "ingest": (_ingest, _showing),
    "exporter": (_exporter,),
    "watch": (_searching, _exporter),
}


@pytest.fixture(params=ROLES)
def app(request: pytest.FixtureRequest, store: str) -> Starlette:
    """The application of each process."""
    registry, live = CollectorRegistry(), LiveSettings(load)
    halves = [half(store, live.settings, registry) for half in ROLES[request.param]]
    return application.application(registry, live, *halves)


def described(app: Starlette) -> Json:
    description: Json = TestClient(app).get("/openapi.json").json()
    return description


def test_the_description_is_valid(app: Starlette) -> None:
    OpenAPIV31SpecValidator(described(app)).validate()


def test_a_process_describes_exactly_the_routes_it_has(app: Starlette) -> None:
    routes = {
        (route.path.replace(":path}", "}"), method.lower())
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"  # which comes with every GET, as the description says
    }
    paths = described(app)["paths"]
    assert {(path, method) for path, methods in paths.items() for method in methods} == routes


def ingesting(store: str, live: LiveSettings, protection: Protection | None = None) -> Starlette:
    registry = CollectorRegistry()
    half = _ingest(store, live.settings, registry)
    return application.application(registry, live, half, protection=protection)


def test_bodies_have_the_fields_that_are_read(store: str) -> None:
    schemas = described(ingesting(store, LiveSettings(load)))["components"]["schemas"]

    def fields(name: str) -> set[str]:
        return set(schemas[name]["properties"])

    read = set(json._Body.__struct_fields__)
    assert fields("EmbeddingRequest") | fields("EmbeddingsRequest") == read


def test_limits_are_those_in_force(store: str) -> None:
    limits = iter([7, 9])
    live = LiveSettings(lambda: load(None, None, {"ingest.max_dimension": next(limits)}))
    app = ingesting(store, live)

    def longest() -> int:
        numbers = described(app)["components"]["schemas"]["Embedding"]["oneOf"][0]
        return int(numbers["maxItems"])

    assert longest() == 7
    live.reload()
    assert longest() == 9


def test_operations_name_the_scope_they_need_where_the_guard_asks(store: str) -> None:
    token = tokens.Token(name="t", sha256=tokens.digest("secret"), scopes=["drift"])
    protection = Protection(Security(Guard({"user": "$2b$04$" + 53 * "a"}, [token])))
    guarded = ingesting(store, LiveSettings(load), protection)
    paths = described(guarded)["paths"]
    assert paths["/embeddings"]["post"]["security"] == [{"basic": []}, {"bearer": ["write"]}]
    assert paths["/canaries"]["post"]["security"] == [{"basic": []}, {"bearer": ["write"]}]
    assert paths["/search"]["post"]["security"] == [{"basic": []}, {"bearer": ["drift"]}]
    assert paths["/openapi.json"]["get"]["security"] == []
    assert (
        described(ingesting(store, LiveSettings(load)))["paths"]["/search"]["post"]["security"]
        == []
    )


CONFIG = """
monitoring: {{poll_interval: 0.1, check_interval: 1, baseline: {{vectors: 250}}}}
database: {{connection_string: "{store}"}}
server: {{port: 0 {protection}}}
ingest: {{max_dimension: 8, max_batch_vectors: 500}}
"""
PASSWORD = "correct horse"
MODEL = "sentence-transformer"


@contextmanager
def measuring(kind: str, store: str, folder: Path) -> Iterator[httpx2.Client]:
    """Run a service that measures a model, and give a client of it."""
    protection = ""
    if kind == "guarded":
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        (folder / "web.yml").write_text(f'basic_auth_users: {{user: "{hashed}"}}')
        tokens.add(folder / "tokens.yaml", "reader", ["drift"])
        protection = f", web_config_file: {folder}/web.yml, tokens_file: {folder}/tokens.yaml"
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(store=store, protection=protection))
    vectors = np.random.default_rng(0).normal(size=(400, openapi_bodies.DIMENSION))
    with (
        serving(config) as service,
        httpx2.Client(base_url=service.url, auth=("user", PASSWORD), timeout=60) as client,
    ):
        body = {"model_name": MODEL, "embeddings": vectors.tolist()}
        assert client.post("/embeddings", json=body).status_code == 201

        def is_checked() -> bool:
            report = client.get(f"/drift/{MODEL}")
            return report.is_success and "history" in report.json()["windows"]["fast"]

        wait_for(is_checked, "a verdict and a check")
        yield client


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(kind, marks=pytest.mark.xdist_group(f"openapi {kind}"))
        for kind in ("open", "guarded")
    ],
)
def service(
    request: pytest.FixtureRequest, module_store: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx2.Client]:
    """A client of a service that tests share which store nothing."""
    with measuring(request.param, module_store, tmp_path_factory.mktemp("service")) as client:
        yield client


@pytest.fixture(params=["open", "guarded"])
def own_service(
    request: pytest.FixtureRequest, store: str, tmp_path: Path
) -> Iterator[httpx2.Client]:
    """A client of a service in which a test may store and delete."""
    with measuring(request.param, store, tmp_path) as client:
        yield client


SCHEMATHESIS = """
hooks = "{hooks}"

# No schema says that numbers in base64 are finite, that vectors are of one dimension, or that a
# key is new; that what is valid is stored is for tests/ingest/http/test_fuzz.py to show.
[[operations]]
include-method = "POST"
include-path = "/search"
checks.positive_data_acceptance.enabled = false

# Here it does not say either that a parameter belongs to one content type: with JSON, those of
# binary bodies are ignored, however wrong.
[[operations]]
include-method = "POST"
include-path = "/embeddings"
checks.negative_data_rejection.enabled = false
checks.positive_data_acceptance.enabled = false

# Nor does it say which bytes are protobuf.
[[operations]]
include-method = "POST"
include-path = "/v1/traces"
checks.negative_data_rejection.enabled = false

# The ids of canaries have a form of their own, and one set has always the same.
[[operations]]
include-method = "POST"
include-path = "/canaries"
checks.positive_data_acceptance.enabled = false
"""


def test_the_service_answers_as_described(
    own_service: httpx2.Client, tmp_path: Path, long: bool
) -> None:
    """Schemathesis sends what the description allows and what it forbids."""
    config = tmp_path / "schemathesis.toml"
    config.write_text(SCHEMATHESIS.format(hooks=openapi_bodies.__file__))
    script = Path(sys.executable).with_name("schemathesis")
    address = str(own_service.base_url.join("/openapi.json"))
    line = [str(script), "--config-file", str(config), "run", address]
    effort = ["--max-examples", "300"] if long else ["--max-examples", "20", "--seed", "0"]
    options = ["--auth", f"user:{PASSWORD}", "--request-timeout", "60"]
    done = subprocess.run([*line, *effort, *options], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stdout.decode()


RUBBISH = [
    *("\0", "a\0b", "\r\nX-A: b", "\u202e", "\ufffd", " ", "-1", "0", "1.5", "1e3", "\u00b2"),
    *("NaN", "Infinity", "null", "TRUE", "[]", "{}", "'", '"', "';--", "%s{}", "../..", "<script>"),
    *("2024-01-01", "2024-01-01T00:00:00", "2024-02-30T00:00:00Z", "2024-01-01T00:00:00+99:99"),
    *("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"),
    5_000 * "9",
]


def parameters(client: httpx2.Client, place: str) -> Iterator[tuple[str, str, Json]]:
    """The methods and paths of all operations, with each of their parameters in this place."""
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == place:
                    yield method, path.replace("{model_name}", MODEL), parameter


def refused(answer: httpx2.Response) -> list[str]:
    """The places that a problem names; an error of the service is none."""
    assert answer.status_code < 500, answer.text
    if answer.is_success:
        return []
    assert answer.headers["content-type"] == "application/problem+json"
    return [place["pointer"] for place in answer.json().get("errors", [])]


def test_rubbish_in_a_query_is_refused_by_the_name_of_its_parameter(
    own_service: httpx2.Client,
) -> None:
    bodies = {
        "/embeddings": ("application/octet-stream", b"1234"),
        "/search": ("application/json", b'{"model_name": "%s", "seq": 1}' % MODEL.encode()),
    }
    for method, path, parameter in parameters(own_service, "query"):
        name, schema = parameter["name"], parameter["schema"]
        schema = schema.get("items", schema)
        others = {"model_name": MODEL, "dimension": "1"} if path == "/embeddings" else {}
        kind, body = bodies.get(path, ("", b""))
        for value in RUBBISH:
            answer = own_service.request(
                method,
                path,
                params=others | {name: value},
                headers={"Content-Type": kind},
                content=body,
            )
            places = [
                place.lower().replace("x-", "").replace("-", "_") for place in refused(answer)
            ]
            if not jsonschema.Draft202012Validator(schema).is_valid(value):
                assert places == [name], (path, name, value, answer.text)


def test_rubbish_in_a_path_is_no_model(service: httpx2.Client) -> None:
    for method, path, _ in parameters(service, "path"):
        for value in RUBBISH:
            answer = service.request(method, path.replace(MODEL, quote(value, safe="")))
            refused(answer)
            assert answer.status_code == 404


HEADERS = (
    *("Accept", "Accept-Encoding", "Authorization", "Content-Encoding", "Content-Length"),
    *("Content-Type", "Host", "Idempotency-Key", "Origin", "Sec-Fetch-Site", "Transfer-Encoding"),
    *("X-Client-Lost", "X-Dimension", "X-Model-Name", "X-Prometheus-Scrape-Timeout-Seconds"),
)
RUBBISH_IN_HEADERS = [
    *(b"", b"\xff\xfe", b"http://[::1", b"-1", b"1e400", b"nan", b",;,", b"*;q=x", b"a/b;q=nan"),
    *(b"Basic AA==", b"Basic " + 7_000 * b"A", b"Bearer \xff", 8_000 * b"9"),
]


def test_rubbish_in_a_header_is_no_error_of_the_service(service: httpx2.Client) -> None:
    address = (str(service.base_url.host), service.base_url.port or 0)
    for path, methods in service.get("/openapi.json").json()["paths"].items():
        for method, name, value in product(methods, HEADERS, RUBBISH_IN_HEADERS):
            lines = {"Host": b"localhost", "Connection": b"close", "Content-Length": b"0"}
            head = b"".join(
                key.encode() + b": " + of + b"\r\n" for key, of in (lines | {name: value}).items()
            )
            with socket.create_connection(address, timeout=60) as client:
                client.sendall(f"{method.upper()} {path} HTTP/1.1\r\n".encode() + head + b"\r\n")
                status = client.recv(12)
            assert b"HTTP/1.1 200" <= status < b"HTTP/1.1 500", (method, path, name, value)


def test_a_foreign_page_is_refused_at_every_path(store: str) -> None:
    protection = Protection(security.read(Settings().server))
    registry, live = CollectorRegistry(), LiveSettings(load)
    halves = [half(store, live.settings, registry) for half in ROLES["serve"]]
    app = application.application(registry, live, *halves, protection=protection)
    client = TestClient(app, base_url="http://localhost")
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method in methods:
            asked = [{"Host": "evil.example"}]
            if method != "get":
                asked += [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}]
            for headers in asked:
                answer = client.request(method, path, headers=headers)
                assert answer.status_code == 403, (method, path, headers)


def closed(schema: Any) -> Any:
    """The same schema, without room for properties that it does not name."""
    if isinstance(schema, list):
        return [closed(element) for element in schema]
    if not isinstance(schema, dict):
        return schema
    shut = {name: closed(value) for name, value in schema.items()}
    return {"additionalProperties": False, **shut} if "required" in schema else shut


def test_a_report_has_nothing_that_is_not_described(service: httpx2.Client) -> None:
    schemas = closed(service.get("/openapi.json").json()["components"]["schemas"])
    for path, name in (("/drift", "Models"), (f"/drift/{MODEL}?exact=true", "Drift")):
        schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
        jsonschema.Draft202012Validator(schema).validate(service.get(path).json())
