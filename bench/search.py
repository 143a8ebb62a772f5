"""The search of a baseline, which is exact, against an HNSW index on the same vectors."""

from __future__ import annotations

import asyncio
import sys

import exporter  # noqa: F401  (one BLAS thread, before numpy)

# isort: split
import numpy as np
import psutil
from numpy.typing import NDArray
from pgvector import Vector

from bench.footprint import send, store
from bench.results import report
from ingest.store import baselines, neighbours
from ingest.store.batch import Batch
from ingest.store.connection import AsyncConnection, Connection, connect
from ingest.store.selection import Selection, select

_DIMENSION = 768
_K = 10
_QUERIES = 50
_BUILD = (
    "set maintenance_work_mem = '1GB'",
    "set max_parallel_maintenance_workers = 0",
    f"create index by_neighbours on baseline_embedding"
    f" using hnsw ((embedding::vector({_DIMENSION})) vector_cosine_ops)",
    "set hnsw.ef_search = 200",
    "analyze baseline_embedding",  # or the planner does not use the index
)
_BY_INDEX = (
    f"select seq from baseline_embedding where model_name = 'm' and version = 1"
    f" order by embedding::vector({_DIMENSION}) <=> %s::vector({_DIMENSION}) limit {_K}"
)


def searching(count: int) -> tuple[float | str, ...]:
    """Measure both searches of a baseline of so many vectors, and what the index costs."""
    random = np.random.default_rng(0)
    mixing = random.normal(size=(64, _DIMENSION))
    vectors = (random.normal(size=(count + _QUERIES, 64)) @ mixing).astype(np.float32)
    pinned, queries = vectors[:count], vectors[count:]
    with store() as string, connect(string) as connection:
        send(string, [Batch("m", pinned[at : at + 5_000]) for at in range(0, count, 5_000)])
        rows = select(connection, "m", Selection(first=count))
        baselines.create(connection, "m", rows, b"", {}, "bench")
        exact, found = asyncio.run(_exactly(string, queries))
        seconds, built = _build(connection)
        by_index, nearly = _by_index(connection, queries)
    recall = np.mean([len(a & b) / _K for a, b in zip(found, nearly, strict=True)])
    return (
        count,
        round(exact * 1e3, 1),
        round(by_index * 1e3, 1),
        round(float(recall), 2),
        round(seconds, 1),
        round(built / 1e6),
    )


async def _exactly(string: str, queries: NDArray[np.float32]) -> tuple[float, list[set[int]]]:
    async with await AsyncConnection.connect(string, autocommit=True) as connection:
        server = psutil.Process(connection.info.backend_pid)
        before, found = _seconds(server), []
        for query in queries:
            matches = await neighbours.baseline(connection, "m", query, _K)
            found.append({match.seq for match in matches})
        return (_seconds(server) - before) / len(queries), found


def _build(connection: Connection) -> tuple[float, int]:
    server = psutil.Process(connection.info.backend_pid)
    before = _seconds(server)
    for statement in _BUILD:
        connection.execute(statement.encode())
    size = connection.execute("select pg_relation_size('by_neighbours')").fetchone()
    assert size is not None
    return _seconds(server) - before, int(size[0])


def _by_index(connection: Connection, queries: NDArray[np.float32]) -> tuple[float, list[set[int]]]:
    server = psutil.Process(connection.info.backend_pid)
    before, found = _seconds(server), []
    for query in queries:
        matches = connection.execute(_BY_INDEX.encode(), [Vector(query).to_text()]).fetchall()
        found.append({seq for (seq,) in matches})
    return (_seconds(server) - before) / len(queries), found


def _seconds(server: psutil.Process) -> float:
    return float(sum(server.cpu_times()[:2]))


def main(quick: bool) -> None:
    """Measure and print."""
    rows = [searching(count) for count in ((1_000,) if quick else (10_000, 50_000))]
    head = ("vectors", "CPU ms exact", "CPU ms by index", "recall", "CPU s to build", "MB of index")
    title = f"Search of a baseline x {_DIMENSION}: exact, and by an HNSW index"
    report("search", "search", title, head, rows, quick)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
