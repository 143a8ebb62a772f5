"""The clients send what a program adds, and never disturb the program."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import trustme

from embedding_drift_client import AsyncClient, Client, queue
from embedding_drift_client.errors import DimensionMismatch, PayloadError, QueueFull, SettingsError
from embedding_drift_client.rows import Rows
from tests.network import Network, Reply, Shelf, forwarded, listening
from tests.service import metrics, serving, wait_for

ROOT = Path(__file__).parent.parent.parent
VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3)
NAN = float("nan")
PATIENT: dict[str, Any] = {"close_timeout": 240}
"""The client gives vectors up only where a test says when."""

AnyClient = Client | AsyncClient
Use = Callable[..., AnyClient]


def always(_: AnyClient) -> bool:
    return True


def use(
    url: str,
    calls: Callable[[AnyClient], None],
    until: Callable[[AnyClient], bool] = always,
    **options: Any,
) -> AnyClient:
    """Run ``calls`` in the client's with block, leave it when a condition holds; return it."""
    options = PATIENT | options
    with Client(url, "m", **options) as client:
        calls(client)
        wait_for(lambda: until(client), "the time to leave")
    return client


def use_async(
    url: str,
    calls: Callable[[AnyClient], None],
    until: Callable[[AnyClient], bool] = always,
    **options: Any,
) -> AnyClient:
    options = PATIENT | options

    async def run() -> AnyClient:
        async with AsyncClient(url, "m", **options) as client, asyncio.timeout(240):
            calls(client)
            while not until(client):
                await asyncio.sleep(0.01)
        return client

    return asyncio.run(run())


either = pytest.mark.parametrize("use", [use, use_async], ids=["sync", "async"])


def counts(client: AnyClient) -> dict[str, int]:
    """Check that the counts add up; return those that are not 0."""
    names = ("sent", "duplicates", "dropped", "failed", "waiting")
    counts = {name: getattr(client, name) for name in names}
    assert client.added == sum(counts.values())
    return {name: count for name, count in counts.items() if count}


@either
def test_added_vectors_are_stored_when_the_client_closes(
    real: Network, connection: psycopg.Connection, use: Use
) -> None:
    def calls(client: AnyClient) -> None:
        client.add([0.5, -1, 2])
        client.add(VECTORS[:2], ids=["a", "b"], metadata=[{"n": 1}, None], timestamps=[7, None])
        client.add(VECTORS[:1], ids=["a"])

    client = use(real.url, calls, batch_size=3)
    assert counts(client) == {"sent": 3, "duplicates": 1}
    assert client.revisions == 0
    assert connection.execute(
        "select id, metadata, extract(epoch from embedded_at)::int, embedding::real[]"
        " from embedding order by seq"
    ).fetchall() == [
        (None, None, None, [0.5, -1, 2]),
        ("a", {"n": 1, "timestamp": 7}, 7, [0, 1, 2]),
        ("b", None, None, [3, 4, 5]),
    ]


@either
def test_another_vector_of_a_stored_id_is_sent_and_counted_as_a_revision(
    real: Network, connection: psycopg.Connection, use: Use
) -> None:
    def calls(client: AnyClient) -> None:
        client.add(VECTORS, ids=list("abcd"))
        client.add(VECTORS + 5, ids=list("abcd"))

    client = use(real.url, calls)
    assert counts(client) == {"sent": 8}
    assert client.revisions == 4
    assert connection.execute("select count(*) from embedding").fetchone() == (8,)


@either
def test_a_batch_is_stored_once_when_its_answer_is_lost(
    real: Network, connection: psycopg.Connection, use: Use
) -> None:
    real.faults = ["lost", Reply(503, {"Retry-After": "0"})]
    client = use(real.url, lambda client: client.add(VECTORS))
    assert counts(client) == {"sent": 4}
    assert real.answers[1].headers == {"Idempotency-Replayed": "true"}
    assert connection.execute("select count(*) from embedding").fetchone() == (4,)


@either
def test_bad_vectors_are_counted_and_their_neighbours_stored(
    real: Network, connection: psycopg.Connection, use: Use
) -> None:
    def calls(client: AnyClient) -> None:
        client.add(VECTORS)
        client.add([1, 2, NAN])
        client.add("text")
        client.add(None)  # type: ignore[arg-type]
        client.add([1, 2])
        client.add([[7, 8, 9], [7, "8", 9], [7, 8]])  # type: ignore[arg-type]

    client = use(real.url, calls)
    assert counts(client) == {"sent": 5, "failed": 6}
    assert connection.execute("select count(*) from embedding").fetchone() == (5,)


@either
def test_a_vector_that_only_the_service_refuses_does_not_cost_its_batch(
    real: Network, use: Use
) -> None:
    def calls(client: AnyClient) -> None:
        client.add(VECTORS, metadata=[{}, {"text": "x" * 20_000}, {}, {"text": "\0"}])
        client.add(VECTORS[:2], timestamps=[1e12, 1])

    assert counts(use(real.url, calls)) == {"sent": 3, "failed": 3}


@either
def test_a_batch_too_large_for_a_proxy_is_halved_until_it_fits(
    network: Network, shelf: Shelf, use: Use, caplog: pytest.LogCaptureFixture
) -> None:
    def limited(headers: Mapping[str, str], body: bytes) -> Reply:
        return shelf(headers, body) if len(body) <= 400 else Reply(413, {}, b"<html>")

    network.service = limited
    vectors = np.arange(30, dtype=np.float32).reshape(-1, 2)
    long = {"text": "x" * 500}

    def calls(client: AnyClient) -> None:
        client.add(vectors, ids=range(15), metadata=[long if n == 5 else {} for n in range(15)])

    client = use(network.url, calls, batch_size=15)
    assert counts(client) == {"sent": 14, "failed": 1}
    ids = [id_ for batch in shelf.batches for id_ in batch.ids or []]
    assert ids == [str(n) for n in range(15) if n != 5]
    assert len(set(network.keys)) == len(network.keys)
    assert "answers 413" in caplog.text


@either
def test_a_batch_too_large_for_the_memory_is_counted_and_the_next_one_is_sent(
    network: Network,
    use: Use,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    joined, shortages = queue._joined, [MemoryError("none is left")]

    def tight(parts: list[Rows]) -> Rows:
        if shortages:
            raise shortages.pop()
        return joined(parts)

    def calls(client: AnyClient) -> None:
        client.add(VECTORS[:3])
        client.add(VECTORS[3:])

    monkeypatch.setattr(queue, "_joined", tight)
    assert counts(use(network.url, calls, batch_size=3)) == {"sent": 1, "failed": 3}
    assert "vectors not stored: none is left" in caplog.text


@either
def test_a_batch_is_sent_when_it_is_full_or_flushed(
    network: Network, shelf: Shelf, use: Use
) -> None:
    def calls(client: AnyClient) -> None:
        for vector in VECTORS:
            client.add(vector)

    client = use(network.url, calls, batch_size=3, interval=3600)
    assert [len(batch) for batch in shelf.batches] == [3, 1]
    assert counts(client) == {"sent": 4}


def test_flush_waits_for_what_was_added(network: Network, shelf: Shelf) -> None:
    with Client(network.url, "m", interval=3600) as client:
        client.add(VECTORS)
        assert client.flush()
        assert len(shelf) == 4
        network.closed.clear()
        client.add(VECTORS)
        assert not client.flush(timeout=0.05)
        assert counts(client) == {"sent": 4, "waiting": 4}
        network.closed.set()
        assert client.flush()
        assert counts(client) == {"sent": 8}


def test_flush_waits_for_what_was_added_async(network: Network, shelf: Shelf) -> None:
    async def run() -> None:
        async with AsyncClient(network.url, "m", interval=3600) as client:
            assert await client.flush()
            client.add(VECTORS)
            assert await client.flush()
            assert len(shelf) == 4
            network.closed.clear()
            client.add(VECTORS)
            assert not await client.flush(timeout=0.05)
            network.closed.set()
            assert await client.flush()
            assert counts(client) == {"sent": 8}

    asyncio.run(run())


def test_a_few_vectors_are_sent_after_the_interval(network: Network, shelf: Shelf) -> None:
    with Client(network.url, "m", interval=0.05) as client:
        client.add(VECTORS)
        wait_for(lambda: len(shelf) == 4, "the batch")


def test_a_few_vectors_are_sent_after_the_interval_async(network: Network, shelf: Shelf) -> None:
    async def run() -> None:
        async with AsyncClient(network.url, "m", interval=0.05) as client:
            client.add(VECTORS)
            while not client.sent:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), 60))
    assert len(shelf) == 4


@either
def test_a_full_queue_drops_the_newest_vectors_and_logs_it_once(
    network: Network, shelf: Shelf, use: Use, caplog: pytest.LogCaptureFixture
) -> None:
    network.closed.clear()

    def calls(client: AnyClient) -> None:
        for number in range(9):
            client.add([number])
        network.closed.set()

    client = use(network.url, calls, max_queue_vectors=5, batch_size=2)
    assert counts(client) == {"sent": 5, "dropped": 4}
    assert [float(v[0]) for batch in shelf.batches for v in batch.vectors] == [0, 1, 2, 3, 4]
    lines = [r.getMessage() for r in caplog.records if r.name == "embedding_drift_client.losses"]
    assert lines == [
        "vectors dropped: 5 vectors wait (20 bytes); no room for 1 more"
        " (logged once; later ones are counted)",
        "closed; vectors: 9 added, 5 sent, 0 duplicates, 4 dropped, 0 failed",
    ]


def reports(network: Network) -> list[str | None]:
    """What each request reported as lost."""
    return [headers.get("x-client-lost") for headers in network.requests]


@either
def test_a_client_that_lost_nothing_reports_nothing(network: Network, use: Use) -> None:
    client = use(network.url, lambda client: client.add(VECTORS), batch_size=2)
    assert counts(client) == {"sent": 4}
    assert reports(network) == [None, None]


@either
def test_losses_are_reported_with_the_next_request_only(network: Network, use: Use) -> None:
    def calls(client: AnyClient) -> None:
        client.add([1, 2, NAN])
        client.add(np.ones((7, 3)))

    client = use(network.url, calls, batch_size=2, max_queue_vectors=4)
    assert counts(client) == {"sent": 4, "dropped": 3, "failed": 1}
    assert reports(network) == ["dropped=3, failed=1", None]


@either
def test_a_report_is_repeated_until_a_request_succeeds(network: Network, use: Use) -> None:
    network.faults = ["lost", Reply(500)]

    def calls(client: AnyClient) -> None:
        client.add(np.ones((9, 3)))

    client = use(network.url, calls, batch_size=2, max_queue_vectors=6)
    assert counts(client) == {"sent": 4, "dropped": 3, "failed": 2}
    assert reports(network) == [
        "dropped=3, failed=0",
        "dropped=3, failed=0",
        "dropped=3, failed=2",
        None,
    ]


@either
def test_losses_after_the_last_batch_send_no_request(network: Network, use: Use) -> None:
    client = use(network.url, lambda client: client.add([1, 2, NAN]))
    assert counts(client) == {"failed": 1}
    assert network.requests == []


@either
def test_the_service_counts_reported_losses_once(folder: Path, store: str, use: Use) -> None:
    config = folder / "config.yaml"
    config.write_text(f'server: {{port: 0}}\ndatabase: {{connection_string: "{store}"}}\n')

    def calls(client: AnyClient) -> None:
        client.add(np.ones((15, 3)))

    with serving(config, "ingest") as service, listening(Network(forwarded(service.url))) as front:
        front.faults = [Reply(503), "lost"]
        client = use(front.url, calls, batch_size=5, max_queue_vectors=10, close_timeout=60)
        page = metrics(service.url)
    assert counts(client) == {"sent": 10, "dropped": 5}
    assert front.answers[1].headers == {"Idempotency-Replayed": "true"}
    lost = 'embedding_drift_client_lost_vectors_total{model_name="m",reason='
    assert f'{lost}"dropped"}} 5.0' in page
    assert f'{lost}"failed"}} 0.0' in page


@either
def test_metadata_too_large_for_the_queue_is_dropped_alone(network: Network, use: Use) -> None:
    def calls(client: AnyClient) -> None:
        client.add(VECTORS, metadata=[{}, {}, {}, {"text": "x" * 10_000}])
        client.add(VECTORS)

    client = use(network.url, calls, max_queue_bytes=5_000)
    assert counts(client) == {"sent": 7, "dropped": 1}


class Odd:
    """An object whose methods all raise, as does the text of its error."""

    class Error(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def __len__(self) -> int:
        raise Odd.Error

    __iter__ = __array__ = __str__ = __len__  # type: ignore[assignment]


class Endless(Odd):
    """An object that has a length but no elements."""

    def __len__(self) -> int:
        return 4


@either
@pytest.mark.parametrize("odd", [Odd(), Endless(), [Odd()], [[1, 2, 3], Odd()]])
def test_objects_that_raise_do_not_disturb_the_program(
    network: Network, use: Use, odd: Any
) -> None:
    def calls(client: AnyClient) -> None:
        client.add(odd)
        client.add(VECTORS, ids=odd)
        client.add(VECTORS, metadata=odd)
        client.add(VECTORS, timestamps=odd)
        client.add(VECTORS)

    assert counts(use(network.url, calls))["sent"] >= 4


def test_vectors_added_outside_the_loop_wait_for_it(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    client = AsyncClient(network.url, "m")
    for _ in range(2):
        client.add(VECTORS)
    assert counts(client) == {"waiting": 8}
    assert [record.getMessage() for record in caplog.records] == [
        "vectors wait: no running event loop (logged once; later ones are counted)"
    ]

    async def run() -> None:
        assert await client.flush()
        await client.close()

    asyncio.run(run())
    assert counts(client) == {"sent": 8}


NOWHERE = "http://127.0.0.1:1"


def seconds_to_leave(
    network: Network, use: Use, until: Callable[[AnyClient], bool] = always, **options: Any
) -> tuple[float, AnyClient]:
    """Measure how long the with block takes after its last call and a condition."""
    left = 0.0

    def may_leave(client: AnyClient) -> bool:
        nonlocal left
        left = time.monotonic()
        return until(client)

    client = use(network.url, lambda c: c.add(VECTORS), may_leave, batch_size=3, **options)
    return time.monotonic() - left, client


def was_refused(client: AnyClient) -> bool:
    return client._sender is not None and client._sender.trouble is not None


@either
@pytest.mark.parametrize("fault", ["busy", "hanging"])
def test_leaving_a_with_block_takes_no_longer_than_the_close_timeout(
    network: Network, use: Use, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    def has_begun(client: AnyClient) -> bool:
        return was_refused(client) if fault == "busy" else len(network.requests) > 0

    if fault == "hanging":
        network.closed.clear()
    network.faults = [Reply(503, {"Retry-After": "60"})] * 9
    seconds, client = seconds_to_leave(network, use, has_begun, close_timeout=0.5)
    assert 0.5 <= seconds < 20, "far from the 30 seconds of a request or the 60 of the pause"
    assert counts(client) == {"failed": 3, "dropped": 1}
    because = "" if fault == "hanging" else f"; {network.url}/embeddings answers 503: not now"
    lines = [r.getMessage() for r in caplog.records if r.name == "embedding_drift_client.losses"]
    assert lines == [
        f"vectors not stored: closed while 4 vectors waited{because}"
        " (logged once; later ones are counted)",
        "closed; vectors: 4 added, 0 sent, 0 duplicates, 1 dropped, 3 failed",
    ]


@either
def test_leaving_a_with_block_is_quick_when_the_service_answers(network: Network, use: Use) -> None:
    seconds, client = seconds_to_leave(network, use, close_timeout=60)
    assert seconds < 30
    assert counts(client) == {"sent": 4}


@either
def test_vectors_lost_at_the_close_raise_with_raise_errors(network: Network, use: Use) -> None:
    network.faults = [Reply(503, {"Retry-After": "60"})] * 9
    with pytest.raises(ConnectionError, match="closed while 4 vectors waited"):
        seconds_to_leave(network, use, close_timeout=0.3, raise_errors=True)


def test_a_closed_client_sends_no_more_requests_and_ends_its_thread(network: Network) -> None:
    network.faults = [Reply(503, {"Retry-After": "60"})]
    client = Client(network.url, "m")
    client.add(VECTORS)
    wait_for(lambda: was_refused(client), "the answer")
    client.close(timeout=0)
    thread = client._thread
    assert thread is not None
    thread.join(30)
    assert not thread.is_alive()
    assert len(network.requests) == 1


def test_an_answer_that_comes_after_the_close_does_not_change_the_counts(
    network: Network,
) -> None:
    network.closed.clear()
    client = Client(network.url, "m")
    client.add(VECTORS)
    wait_for(lambda: len(network.requests) == 1, "the request")
    client.close(timeout=0)
    assert counts(client) == {"failed": 4}
    network.closed.set()
    thread = client._thread
    assert thread is not None
    thread.join(60)
    assert counts(client) == {"failed": 4}


def test_closing_without_a_service_counts_the_vectors() -> None:
    client = Client(NOWHERE, "m", batch_size=3)
    client.add(VECTORS)
    wait_for(lambda: was_refused(client), "the refusal")
    client.close(timeout=0.05)
    assert counts(client) == {"failed": 3, "dropped": 1}


def test_closing_without_a_service_counts_the_vectors_async() -> None:
    async def run() -> AsyncClient:
        client = AsyncClient(NOWHERE, "m", batch_size=3)
        client.add(VECTORS)
        await client.close(timeout=0.05)
        return client

    assert counts(asyncio.run(run())) == {"failed": 3, "dropped": 1}


def test_the_counts_are_right_after_the_loop_ends() -> None:
    async def run() -> AsyncClient:
        client = AsyncClient(NOWHERE, "m", batch_size=3)
        client.add(VECTORS)
        await client.flush(timeout=0.05)
        return client

    assert counts(asyncio.run(run())) == {"failed": 3, "dropped": 1}


@either
def test_a_closed_client_drops_vectors_without_raising(network: Network, use: Use) -> None:
    client = use(network.url, lambda _: None)
    client.add(VECTORS)
    assert counts(client) == {"dropped": 4}


@either
def test_errors_are_raised_with_raise_errors(network: Network, use: Use) -> None:
    def calls(client: AnyClient) -> None:
        with pytest.raises(PayloadError, match="/embeddings/0/2: is NaN"):
            client.add([1, 2, NAN])
        with pytest.raises(QueueFull, match="no room for 2 more"):
            client.add(np.ones((6, 3)))
        client.add(VECTORS)

    client = use(network.url, calls, raise_errors=True, max_queue_vectors=4)
    assert counts(client) == {"sent": 4}
    with pytest.raises(DimensionMismatch, match="answers 409"):
        use(network.url, lambda client: client.add([1, 2]), raise_errors=True)


def test_a_failed_send_is_raised_once(network: Network) -> None:
    network.faults = [Reply(401), Reply(401)]
    with Client(network.url, "m", raise_errors=True, **PATIENT) as client:
        client.add(VECTORS)
        with pytest.raises(PermissionError, match="answers 401"):
            client.flush()
        client.add(VECTORS)
        with pytest.raises(PermissionError, match="answers 401"):
            client.flush()
        client.add(VECTORS)
    assert counts(client) == {"sent": 4, "failed": 8}


def test_threads_share_a_client(network: Network, shelf: Shelf) -> None:
    def work(first: int) -> None:
        for number in range(first, first + 200):
            client.add([number])

    with Client(network.url, "m", batch_size=50, **PATIENT) as client:
        threads = [threading.Thread(target=work, args=(200 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert counts(client) == {"sent": 800}
    stored = [int(v[0]) for batch in shelf.batches for v in batch.vectors]
    assert sorted(stored) == list(range(800))


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "localhost"},
        {"token": "\n"},
        {"verify": "/none"},
        {"batch_size": 0},
        {"close_timeout": -1},
        {"close_timeout": NAN},
        {"close_timeout": "5"},
    ],
)
def test_wrong_parameters_are_refused_at_once(
    kind: type[Client | AsyncClient], wrong: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError):
        kind(**{"url": "http://127.0.0.1:1", "model_name": "m", **wrong})


def python(program: str, url: str = "") -> str:
    """Run a program in another interpreter; return what it prints."""
    line = [sys.executable, "-c", program, url]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_waiting_vectors_are_sent_when_the_interpreter_exits(
    network: Network, shelf: Shelf
) -> None:
    program = """
import sys
from embedding_drift_client import client
client._EXIT_SECONDS = 60
client.Client(sys.argv[1], "one", interval=3600).add([1, 2])
client.Client(sys.argv[1], "two", interval=3600).add([3, 4])
"""
    assert python(program, network.url) == ""
    assert sorted(batch.model_name for batch in shelf.batches) == ["one", "two"]


def test_an_interpreter_exits_when_the_service_hangs(network: Network) -> None:
    network.closed.clear()
    program = """
import sys
from embedding_drift_client import client
client._EXIT_SECONDS = client._GRACE_SECONDS = 0.1
waiting = client.Client(sys.argv[1], "m")
waiting.add([1, 2])
"""
    python(program, network.url)
    network.closed.set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_a_forked_child_sends_its_own_vectors_only(network: Network, shelf: Shelf) -> None:
    program = """
import os, sys, warnings
warnings.simplefilter("ignore")
from embedding_drift_client import Client
client = Client(sys.argv[1], "m", interval=3600)
client.add([1])
child = os.fork()
client.add([3 if child else 2])
client.close(60)
if child:
    os.waitpid(child, 0)
    assert client.sent == 2
else:
    assert client.sent == 1
"""
    assert python(program, network.url) == ""
    assert sorted(float(v[0]) for batch in shelf.batches for v in batch.vectors) == [1, 2, 3]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_a_client_that_a_forked_child_cannot_use_does_not_disturb_the_others(
    network: Network, shelf: Shelf, tmp_path: Path
) -> None:
    certificates = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(certificates)
    program = f"""
import os, sys, warnings
warnings.simplefilter("ignore")
from embedding_drift_client import Client
lost = [Client(sys.argv[1], "lost", verify={str(certificates)!r}) for _ in range(3)]
kept = [Client(sys.argv[1], "kept") for _ in range(3)]
os.unlink({str(certificates)!r})
if child := os.fork():
    assert os.waitpid(child, 0)[1] == 0
else:
    for client in lost + kept:
        client.add([2])
        client.close(60)
    assert [client.sent for client in kept] == [1, 1, 1]
    assert [client.failed for client in lost] == [1, 1, 1]
"""
    said = python(program, network.url)
    assert [batch.model_name for batch in shelf.batches] == ["kept"] * 3
    assert said.count(f"vectors not stored: {certificates}: is not a file of certificates") == 3
    assert "Exception ignored" not in said
