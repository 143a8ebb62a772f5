"""A stand-in for Qdrant's server: the calls that a watch makes, answered by the local mode."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, cast

import pytest
from qdrant_client import QdrantClient


class Qdrant:
    """The stand-in, filled through ``local``.

    Attributes
    ----------
    port : int
    local : QdrantClient
    lock : Lock
        Held while the points are used, because the local mode is for one thread.
    key : str or None
        What the clients must send.
    """

    def __init__(self) -> None:
        self.local = QdrantClient(location=":memory:")
        self.lock = Lock()
        self.key: str | None = None
        self.port = 0

    @property
    def source(self) -> str:
        """Address for ``--source``."""
        return f"qdrant://127.0.0.1:{self.port}"

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Any:
        """Answer a call, as the REST interface of Qdrant does."""
        if (method, path) == ("GET", "/collections"):
            return self.local.get_collections()
        call = re.fullmatch(r"/collections/([^/]+)(/.*)?", path)
        assert call is not None, path
        name, rest = call[1], call[2] or ""
        if rest == "/exists":
            return {"exists": self.local.collection_exists(name)}
        if not rest:
            return self.local.get_collection(name)
        options: dict[str, Any] = {key: body[key] for key in ("limit", "offset") if key in body}
        options |= {key: body.get(key, False) for key in ("with_payload", "with_vector")}
        options["with_vectors"] = options.pop("with_vector")
        if rest == "/points/count":
            return self.local.count(name)
        if rest == "/points/scroll":
            points, offset = self.local.scroll(name, **options)
            return {
                "points": [p.model_dump(mode="json") for p in points],
                "next_page_offset": offset,
            }
        assert rest == "/points", rest
        return [
            point.model_dump(mode="json")
            for point in self.local.retrieve(name, body["ids"], **options)
        ]

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Answer while entered."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.port = server.server_address[1]
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def _dumped(points: Sequence[Any]) -> list[Any]:
    return [point.model_dump(mode="json") for point in points]


def _handler(qdrant: Qdrant) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size) or b"{}")
            status, found = 200, None
            if qdrant.key is not None and self.headers.get("api-key") != qdrant.key:
                status, found = 401, "Must provide an API key"
            else:
                path = self.path.partition("?")[0]
                try:
                    with qdrant.lock:
                        found = qdrant.answer(self.command, path, body)
                except ValueError as error:
                    status, found = 404, str(error)
            if hasattr(found, "model_dump"):
                found = cast("Any", found).model_dump(mode="json")
            data = json.dumps({"result": found, "status": "ok", "time": 0.0}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    return Handler


@pytest.fixture
def qdrant() -> Iterator[Qdrant]:
    """A stand-in without collections."""
    stand_in = Qdrant()
    with stand_in.serving():
        yield stand_in
