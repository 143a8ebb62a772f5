"""The SQL function shard_of: a jump consistent hash."""

from __future__ import annotations

import hashlib

import psycopg
import pytest


def jump(key: int, buckets: int) -> int:
    """Lamping and Veach's algorithm, as published."""
    bucket, following = -1, 0
    while following < buckets:
        bucket = following
        key = (key * 2862933555777941757 + 1) % 2**64
        following = int((bucket + 1) * (2**31 / ((key >> 33) + 1)))
    return bucket


def shards(connection: psycopg.Connection, names: list[str], total: int) -> list[int]:
    rows = connection.execute(
        "select shard_of(name, %s) from unnest(%s::text[]) with ordinality as n(name, at)"
        " order by at",
        (total, names),
    )
    return [number for (number,) in rows]


@pytest.fixture(scope="module")
def names() -> list[str]:
    return [f"team-{number % 7}/model {number}" for number in range(500)]


@pytest.mark.parametrize("total", [1, 2, 3, 10, 97])
def test_shards_are_those_of_the_published_algorithm(
    connection: psycopg.Connection, names: list[str], total: int
) -> None:
    keys = [int(hashlib.md5(name.encode()).hexdigest()[:16], 16) for name in names]
    assert shards(connection, names, total) == [jump(key, total) for key in keys]


def test_models_are_distributed_evenly(connection: psycopg.Connection, names: list[str]) -> None:
    found = shards(connection, names, 5)
    assert all(70 <= found.count(shard) <= 130 for shard in range(5))


def test_an_added_shard_takes_models_and_no_others_move(
    connection: psycopg.Connection, names: list[str]
) -> None:
    before, after = shards(connection, names, 5), shards(connection, names, 6)
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {5}
    assert 50 <= len(moved) <= 120
