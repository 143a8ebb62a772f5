"""Replay: each batch is stored once, whatever the service answers first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import numpy as np
import pytest

from ingest.payload import parse
from ingest.replay import Sender, batches, paced
from ingest.runtime.errors import PayloadError, StoreUnavailable
from ingest.runtime.settings import IngestSettings
from ingest.store.batch import Batch
from ingest.vectorfile import Rows

VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3)


@dataclass
class Service:
    """A service on loopback that gives the prepared answers first, then stores.

    It loses its first ``lost_answers`` answers after it has stored, as a network may.
    """

    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    lost_answers: int = 0
    batches: list[Batch] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    url: str = ""

    def take(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], object]:
        batch = parse(body, headers=headers, query={}, limits=IngestSettings(), now=2e9)
        is_repeat = batch.idempotency_key in self.keys
        self.keys.append(batch.idempotency_key)
        if self.answers:
            return *self.answers.pop(0), {"detail": "not now"}
        if not (is_repeat and self.batches):
            self.batches.append(batch)
        return 201, {}, {"stored": len(batch)}


@contextmanager
def listening(service: Service) -> Iterator[Service]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, extra, answer = service.take(headers, body)
            if service.lost_answers:
                service.lost_answers -= 1
                self.close_connection = True
                return
            data = msgspec.json.encode(answer)
            self.send_response(status)
            for name, value in {**extra, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        service.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield service
        server.shutdown()
        thread.join()


@pytest.fixture
def service() -> Iterator[Service]:
    with listening(Service()) as service:
        yield service


def sender(service: Service, pauses: list[float] | None = None) -> Sender:
    sleep: Callable[[float], None] = (pauses if pauses is not None else []).append
    return Sender(service.url + "/", "m", sleep)


def test_bare_vectors_go_as_raw_floats(service: Service) -> None:
    with sender(service) as sending:
        assert sending.send(Rows(VECTORS)) == 4
    [batch] = service.batches
    assert batch.model_name == "m"
    assert batch.vectors.tobytes() == VECTORS.tobytes()


def test_ids_and_metadata_go_with_their_vectors(service: Service) -> None:
    rows = Rows(VECTORS[:2], ["a", "b"], [{"text": "x"}, {"text": "y"}])
    with sender(service) as sending:
        sending.send(rows)
    [batch] = service.batches
    assert batch.ids == ["a", "b"]
    assert batch.metadata == [b'{"text":"x"}', b'{"text":"y"}']
    assert batch.vectors.tobytes() == VECTORS[:2].tobytes()


def test_a_service_that_asks_for_patience_gets_the_same_batch_again(service: Service) -> None:
    service.answers = [(503, {"Retry-After": "7"}), (429, {})]
    pauses: list[float] = []
    with sender(service, pauses) as sending:
        assert sending.send(Rows(VECTORS)) == 4
    assert pauses == [7.0, 14.0]
    assert len(set(service.keys)) == 1
    assert len(service.batches) == 1


def test_two_batches_have_two_keys(service: Service) -> None:
    with sender(service) as sending:
        for part in batches([Rows(VECTORS)], 2):
            sending.send(part)
    assert len(set(service.keys)) == 2


def test_a_refused_batch_is_not_sent_again(service: Service) -> None:
    service.answers = [(409, {})]
    with sender(service) as sending, pytest.raises(PayloadError, match="answers 409: not now"):
        sending.send(Rows(VECTORS))
    assert len(service.keys) == 1


def test_a_batch_whose_answer_is_lost_goes_again_under_the_same_key(service: Service) -> None:
    service.lost_answers = 2
    with sender(service, []) as sending:
        assert sending.send(Rows(VECTORS)) == 4
    assert len(service.keys) == 3
    assert len(set(service.keys)) == 1
    assert len(service.batches) == 1


def test_an_answer_of_another_service_is_not_taken_for_stored(service: Service) -> None:
    service.answers = [(200, {})]
    with sender(service) as sending, pytest.raises(PayloadError, match="not as this service does"):
        sending.send(Rows(VECTORS))


@pytest.mark.parametrize("name", ["my vectors", "mod\N{LATIN SMALL LETTER E WITH GRAVE}le", ""])
def test_an_illegal_model_name_is_refused_before_anything_is_sent(name: str) -> None:
    with pytest.raises(PayloadError, match=r"model name: .* is not allowed"):
        Sender("http://127.0.0.1:1", name)


def test_a_url_without_a_scheme_is_refused_at_once() -> None:
    pauses: list[float] = []
    astray = Sender("localhost:10910", "m", pauses.append)
    with astray, pytest.raises(PayloadError, match="must begin with http://"):
        astray.send(Rows(VECTORS))
    assert pauses == []


def test_a_service_that_is_not_there_is_given_up_in_the_end() -> None:
    pauses: list[float] = []
    gone = Sender("http://127.0.0.1:1", "m", pauses.append)
    with gone, pytest.raises(StoreUnavailable, match="given up after 8 attempts"):
        gone.send(Rows(VECTORS))
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30]


def test_batches_keep_rows_together() -> None:
    rows = Rows(VECTORS, ["a", "b", "c", "d"], [{"n": n} for n in range(4)])
    parts = list(batches([rows, Rows(VECTORS[:1])], 3))
    assert [len(part) for part in parts] == [3, 1, 1]
    assert parts[1].ids == ["d"]
    assert parts[1].metadata == [{"n": 3}]
    assert parts[2].ids == ()


def test_a_rate_is_kept_without_drifting() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    times = []
    for _ in paced([Rows(VECTORS)] * 3, rate=8, sleep=sleep, clock=lambda: now[0]):
        times.append(now[0])
        now[0] += 0.1
    assert times == pytest.approx([0, 0.5, 1.0])
