"""``python -m bench.ingest``: throughput, latency and memory of ``POST /embeddings``.

Binary batches are compared with a bare COPY of the same rows. Single JSON vectors are compared with
an empty endpoint of the same server that reads the same bodies, and with an endpoint that only
commits. Each pair alternates, so that a noisy machine disturbs both alike. Then ``serve`` runs at
half of its maximum: latencies, scrapes and the event loop. The vectors of a round stay on the disk
until the next one: have 10 GB free in `TMPDIR`.
"""

from __future__ import annotations

import re
import statistics
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import httpx2
import msgspec
import numpy as np

from bench.ingest import pace, service, wrk
from bench.results import report
from ingest.store import copy
from ingest.store.batch import Batch
from ingest.store.connection import connect

DIMENSION = 768
BATCH = 100
CONNECTIONS = 64
BINARY = {
    "Content-Type": "application/octet-stream",
    "X-Model-Name": "batches",
    "X-Dimension": str(DIMENSION),
}
JSON = {"Content-Type": "application/json"}

Pair = tuple[float, float]


def bare_copy(store: str, vectors: np.ndarray, seconds: float) -> float:
    """Return vectors per second by COPY BINARY of prepared rows, committed every 1,000."""
    now = datetime.now(UTC)
    name = f"bare-{time.monotonic_ns()}"
    head = f"copy embedding ({copy.COLUMNS}) from stdin (format binary)"
    stored, spent = 0, 0.0
    with connect(store) as connection:
        while spent < seconds:
            blocks = [
                copy.encode([Batch(name, vectors)], 1 + stored + n * len(vectors), now)
                for n in range(10)
            ]
            start = time.perf_counter()
            with connection.cursor() as cursor, cursor.copy(head.encode()) as stream:
                for block in (copy.HEADER, *blocks, copy.TRAILER):
                    stream.write(block)
            spent += time.perf_counter() - start
            stored += len(blocks) * len(vectors)
    return stored / spent


def batches(store: str, vectors: np.ndarray, seconds: float, rounds: int) -> list[Pair]:
    """Return vectors per second over HTTP and by a bare COPY, per round."""
    body = vectors.tobytes()
    pairs = []
    with service.serving(store, "ingest") as ingest:
        url = f"{ingest.url}/embeddings"
        wrk.post(url, body, BINARY, 16, 1)
        for _ in range(rounds):
            service.discard(store)
            limit = bare_copy(store, vectors, seconds)
            pairs.append((BATCH * wrk.post(url, body, BINARY, 16, seconds).rate, limit))
    return pairs


def singles(url: str, body: bytes, seconds: float, rounds: int) -> list[Pair]:
    """Return requests per second with one vector each, and of an empty endpoint, per round."""
    pairs = []
    with service.empty() as nothing:
        wrk.post(url, body, JSON, CONNECTIONS, 1)
        for _ in range(rounds):
            limit = wrk.post(f"{nothing.url}/embeddings", body, JSON, CONNECTIONS, seconds)
            pairs.append((wrk.post(url, body, JSON, CONNECTIONS, seconds).rate, limit.rate))
    return pairs


def request(body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return the bytes of a whole request."""
    lines = ["POST /embeddings HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Scrapes(threading.Thread):
    """Scrapes once per second until stopped."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.seconds: list[float] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        """Scrape."""
        with httpx2.Client() as client:
            while not self.stopping.wait(1):
                start = time.perf_counter()
                client.get(f"{self.url}/metrics").raise_for_status()
                self.seconds.append(time.perf_counter() - start)


def under_load(store: str, sent: bytes, rate: float, seconds: float) -> tuple[str, ...]:
    """Send ``rate`` requests per second to ``serve``; return latencies, scrapes and loop lag."""
    with service.serving(store, "serve") as serve:
        # First, so that the baseline is fitted before the measurement.
        pace.latencies(serve.url, sent, rate, seconds / 2, CONNECTIONS)
        before = httpx2.get(f"{serve.url}/metrics").text
        scrapes = Scrapes(serve.url)
        scrapes.start()
        took = pace.latencies(serve.url, sent, rate, seconds, CONNECTIONS)
        scrapes.stopping.set()
        scrapes.join()
        page = httpx2.get(f"{serve.url}/metrics").text
        peak = serve.peak_bytes
    return (
        f"{rate:,.0f} requests/s of {len(sent) / 1000:,.0f} kB",
        *(f"{1000 * np.quantile(took, q):.1f}" for q in (0.5, 0.99)),
        f"{1000 * np.quantile(scrapes.seconds, 0.99):.0f}",
        lag(before, page),
        f"{peak / 2**20:,.0f}",
    )


def lag(before: str, after: str) -> str:
    """Return an upper bound of the event loop's lag, and how often it exceeded 50 ms."""

    def counts(page: str) -> dict[float, float]:
        found = re.findall(r'event_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)', page)
        return {float(bound): float(count) for bound, count in found}

    earlier, later = counts(before), counts(after)
    seen = {bound: later[bound] - earlier[bound] for bound in later}
    total = seen[float("inf")]
    bound = min(bound for bound, count in seen.items() if count == total)
    return f"{1000 * bound:.0f} ({total - seen[0.05]:.0f} of {total:,.0f})"


def ratio(what: str, pairs: list[Pair]) -> tuple[str, ...]:
    """Return the medians of both sides and of their ratios."""
    ours, limit = (statistics.median(side) for side in zip(*pairs, strict=True))
    share = statistics.median(one / other for one, other in pairs)
    return what, f"{ours:,.0f}", f"{limit:,.0f}", f"{share:.2f}"


def main(quick: bool) -> None:
    """Measure and print."""
    rounds, seconds = (2, 3.0) if quick else (7, 6.0)
    vectors = np.random.default_rng(0).normal(size=(BATCH, DIMENSION)).astype(np.float32)
    single = msgspec.json.encode({"model_name": "singles", "embedding": vectors[0].tolist()})
    with service.postgresql() as store:
        batched = batches(store, vectors, seconds, rounds)
        with service.serving(store, "ingest") as ingest:
            one_by_one = singles(f"{ingest.url}/embeddings", single, seconds, rounds)
        with service.bare(store) as bare:
            committed = singles(f"{bare.url}/embeddings", single, seconds, rounds)
        half = [statistics.median(ours for ours, _ in pairs) / 2 for pairs in (batched, one_by_one)]
        loaded = [
            under_load(store, request(vectors.tobytes(), BINARY), half[0] / BATCH, 5 * seconds),
            under_load(store, request(single, JSON), half[1], 5 * seconds),
        ]
    report(
        "ingest",
        "throughput",
        f"Ingest of vectors of dimension {DIMENSION}",
        ("what", "ours /s", "limit /s", "ratio"),
        [
            ratio(f"vectors in binary batches of {BATCH}, to a bare COPY", batched),
            ratio(f"JSON vectors from {CONNECTIONS} connections, to an empty endpoint", one_by_one),
            ratio("the same, unchecked: only numbers read and groups committed", committed),
        ],
        quick,
    )
    report(
        "ingest",
        "serving",
        "serve at half of that, milliseconds",
        ("what", "median", "p99", "scrape p99", "lag below (above 50)", "peak MiB"),
        loaded,
        quick,
    )


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
