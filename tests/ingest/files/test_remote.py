"""Files on other machines: every error becomes one OSError that names the URL."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import aiohttp
import fsspec
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from ingest.files.columns import Options
from ingest.files.reader import SUFFIXES, opened
from ingest.files.remote import answering, open_file
from ingest.files.source import Source
from ingest.runtime.errors import PayloadError
from tests.ingest.files.vectors import whole


def dimension(source: Source) -> int:
    with opened(source, source.files[0], Options()) as file:
        return int(next(file.rows(0)).vectors.shape[1])


class Web(BaseHTTPRequestHandler):
    """Serves ranges of one file, and fails later."""

    content: ClassVar[bytes]
    fails: ClassVar[str] = ""

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        if self.fails == "closes":
            self.close_connection = True
        elif self.fails == "breaks":
            self.send_error(503, "No more")
        else:
            self._answer(self.content)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, body: bytes) -> None:
        first, last = 0, len(self.content) - 1
        if "Range" in self.headers:
            first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(self.content)}")
        else:
            self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        self.wfile.write(body[first : last + 1])


class Refusal(socketserver.StreamRequestHandler):
    """An FTP server that refuses every login."""

    def handle(self) -> None:
        self.wfile.write(b"220 Welcome\r\n")
        self.rfile.readline()
        self.wfile.write(b"530 Login incorrect\r\n")


@contextmanager
def served(server: socketserver.TCPServer) -> Iterator[str]:
    """Serve on a free port of loopback, and yield the address."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with server:
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    path = tmp_path / "one.parquet"
    parquet.write_table(pa.table({"embedding": np.ones((500, 8)).tolist()}), path)
    monkeypatch.setattr(Web, "content", path.read_bytes(), raising=False)
    with served(ThreadingHTTPServer(("127.0.0.1", 0), Web)) as address:
        yield address


@pytest.mark.parametrize(
    ("fails", "derives_from", "message"),
    [
        ("breaks", aiohttp.ClientResponseError, "ClientResponseError: 503, message='No more', url"),
        ("closes", aiohttp.ServerDisconnectedError, "ServerDisconnectedError: Server disconnected"),
    ],
)
def test_a_web_server_that_fails_while_reading_is_an_error_of_one_line(
    web: str,
    monkeypatch: pytest.MonkeyPatch,
    fails: str,
    derives_from: type[Exception],
    message: str,
) -> None:
    url = f"http://me:pw@{web}/one.parquet?sig=SECRET"
    source = Source.find(url, SUFFIXES)
    assert dimension(source) == 8
    monkeypatch.setattr(Web, "fails", fails)
    assert not issubclass(derives_from, OSError)
    with pytest.raises(derives_from):
        fsspec.filesystem("http").cat_file(url)
    with pytest.raises(PayloadError) as caught:
        dimension(source)
    assert str(caught.value).startswith(f"http://{web}/one.parquet: {message}")
    assert "SECRET" not in str(caught.value)
    assert "pw" not in str(caught.value)


def test_the_signature_of_a_url_is_no_part_of_its_path(
    web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Web, "content", b"id,0,1\na,1,2.5\n")
    url = f"http://{web}/lang=en/vectors.csv?X-Signature=a/b.c"
    rows = whole(url)
    assert (rows.ids, rows.vectors.tolist()) == (["a"], [[1, 2.5]])
    assert rows.metadata == [{"lang": "en"}]
    assert Source.find(url, SUFFIXES).title == "vectors"


def test_a_refused_login_is_an_error_of_one_line() -> None:
    with (
        served(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refusal)) as address,
        pytest.raises(PayloadError) as caught,
    ):
        Source.find(f"ftp://me:pw@{address}/lake", SUFFIXES)
    message = f"ftp://{address}/lake cannot be read: error_perm: 530 Login incorrect"
    assert str(caught.value) == message


def test_a_missing_file_is_reported_with_the_reason(
    web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source.find(f"http://{web}/one.parquet", SUFFIXES)
    monkeypatch.setattr(Web, "do_HEAD", lambda self: self.send_error(404, "Gone"))
    monkeypatch.setattr(Web, "fails", "closes")
    url = f"http://{web}/one.parquet"
    with pytest.raises(PayloadError) as caught:
        dimension(source)
    assert str(caught.value).startswith(f"{url}: FileNotFoundError: {url}, by Server")


def test_an_error_without_a_message_is_reported_by_its_type() -> None:
    with pytest.raises(OSError, match=r"^TimeoutError$"), answering():
        raise TimeoutError


def test_errors_outside_the_file_system_are_not_changed(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"12345")
    file = open_file(fsspec.filesystem("file"), str(tmp_path / "one"), "rb")
    nothing: dict[object, object] = {}
    with pytest.raises(KeyError), file:
        nothing[file.seek(3), file.read(9), file.tell()]
    assert file.closed
