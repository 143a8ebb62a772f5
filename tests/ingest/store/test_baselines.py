"""Pinned baselines: versions, and copies that stay when the vectors expire."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from ingest.runtime.errors import NotFound
from ingest.store import baselines
from ingest.store.connection import connect
from ingest.store.selection import Selection, select

InsertAll = Callable[..., list[object]]


def test_an_unknown_model_has_no_versions(connection: psycopg.Connection) -> None:
    with pytest.raises(NotFound, match="there is no model 'none'"):
        baselines.versions(connection, "none")


@pytest.mark.usefixtures("filled")
def test_versions_are_numbered_and_each_can_be_loaded(connection: psycopg.Connection) -> None:
    first = select(connection, "m", Selection(first=5))
    last = select(connection, "m", Selection(last=5))
    assert baselines.create(connection, "m", first, b"one", {}, "first 5") == 1
    assert baselines.create(connection, "m", last, b"two", {}, "last 5") == 2
    assert baselines.create(connection, "m", last, b"no", {}, "x", instead_of=0) is None
    stored = baselines.load(connection, "m", 1)
    assert (stored.detector, stored.vectors, stored.last_seq) == (b"one", 5, 5)
    assert [v.version for v in baselines.versions(connection, "m")] == [2, 1]
    with pytest.raises(NotFound, match="m has no baseline 3"):
        baselines.load(connection, "m", 3)


def test_copies_stay_when_the_vectors_are_deleted(
    connection: psycopg.Connection, filled: NDArray[np.float32]
) -> None:
    rows = select(connection, "m", Selection(first=5))
    baselines.create(connection, "m", rows, b"", {}, "first 5")
    connection.execute("truncate embedding")
    copies = connection.execute(
        "select seq, metadata, embedding::real[] from baseline_embedding order by seq"
    ).fetchall()
    assert [seq for seq, _, _ in copies] == [1, 2, 3, 4, 5]
    assert [metadata for _, metadata, _ in copies] == [{"n": n} for n in range(5)]
    np.testing.assert_array_equal(np.array([v for _, _, v in copies], np.float32), filled[:5])


@pytest.mark.usefixtures("filled")
def test_vectors_that_went_after_they_were_selected_are_no_baseline(
    connection: psycopg.Connection,
) -> None:
    rows = select(connection, "m", Selection(first=5))
    connection.execute("delete from embedding where model_name = 'm' and seq <= 2")
    with pytest.raises(NotFound, match="2 of the 5 vectors of a baseline of model m are not"):
        baselines.create(connection, "m", rows, b"", {}, "first 5")
    assert baselines.versions(connection, "m") == []


@pytest.mark.usefixtures("filled")
def test_pinning_from_several_processes_at_once_gives_different_versions(
    store: str, connection: psycopg.Connection
) -> None:
    rows = select(connection, "m", Selection(first=5))

    def create(_: int) -> int | None:
        with connect(store) as own:
            return baselines.create(own, "m", rows, b"", {}, "first 5")

    with ThreadPoolExecutor(4) as threads:
        assert sorted(v for v in threads.map(create, range(4)) if v) == [1, 2, 3, 4]


@pytest.mark.usefixtures("filled")
def test_pinning_several_models_at_once_does_not_deadlock(
    store: str, connection: psycopg.Connection
) -> None:
    rows = {name: select(connection, name, Selection(first=3)) for name in ("m", "other")}

    def create(name: str) -> int | None:
        with connect(store) as own:
            return baselines.create(own, name, rows[name], b"", {}, "first 3")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(create, ["m", "other"] * 10))
    assert [v.version for v in baselines.versions(connection, "m")] == [10, 9, 8]
    assert [v.version for v in baselines.versions(connection, "other")] == [10, 9, 8]


@pytest.mark.usefixtures("filled")
def test_the_version_in_use_is_the_one_that_was_chosen_last(
    connection: psycopg.Connection,
) -> None:
    assert baselines.in_use(connection, "m") is None
    rows = select(connection, "m", Selection(first=5))
    baselines.create(connection, "m", rows, b"", {}, "first 5", instead_of=0)
    baselines.create(connection, "m", rows, b"", {}, "first 5", instead_of=1)
    assert baselines.in_use(connection, "m") == 2
    baselines.use(connection, "m", 1)
    assert baselines.in_use(connection, "m") == 1
    assert [(v.version, v.automatic, v.in_use) for v in baselines.versions(connection, "m")] == [
        (2, True, False),
        (1, False, True),
    ]
    assert baselines.create(connection, "m", rows, b"", {}, "x", instead_of=2) is None
    assert baselines.create(connection, "m", rows, b"", {}, "last 5") == 3
    assert baselines.in_use(connection, "m") == 3
    with pytest.raises(NotFound, match="m has no baseline 7"):
        baselines.use(connection, "m", 7)


@pytest.mark.usefixtures("filled")
def test_a_version_in_use_that_a_person_chooses_is_not_replaced(
    connection: psycopg.Connection,
) -> None:
    rows = select(connection, "m", Selection(first=5))
    baselines.create(connection, "m", rows, b"", {}, "first 5", instead_of=0)
    baselines.use(connection, "m", 1)
    assert baselines.create(connection, "m", rows, b"", {}, "x", instead_of=1) is None
    assert baselines.in_use(connection, "m") == 1


@pytest.mark.usefixtures("filled")
def test_a_version_is_used_also_after_the_clock_was_set_back(
    connection: psycopg.Connection,
) -> None:
    rows = select(connection, "m", Selection(first=5))
    for _ in range(2):
        baselines.create(connection, "m", rows, b"", {}, "first 5")
    connection.execute("update baseline set used_at = used_at + interval '1 day'")
    baselines.use(connection, "m", 1)
    assert baselines.in_use(connection, "m") == 1
    baselines.create(connection, "m", rows, b"", {}, "first 5")
    assert baselines.in_use(connection, "m") == 3


@pytest.mark.usefixtures("filled")
def test_automatic_versions_drop_none_that_a_person_pinned_or_chose(
    connection: psycopg.Connection,
) -> None:
    rows = select(connection, "m", Selection(first=5))

    def pin_automatically(times: int) -> None:
        for _ in range(times):
            used = baselines.in_use(connection, "m") or 0
            assert baselines.create(connection, "m", rows, b"", {}, "x", instead_of=used)

    pin_automatically(2)
    baselines.use(connection, "m", 1)
    baselines.create(connection, "m", rows, b"", {}, "by hand")
    pin_automatically(5)
    assert [v.version for v in baselines.versions(connection, "m")] == [8, 7, 6, 3, 1]


@pytest.mark.usefixtures("filled")
def test_the_detector_of_another_baseline_of_this_version_is_not_replaced(
    connection: psycopg.Connection,
) -> None:
    rows = select(connection, "m", Selection(first=5))
    baselines.create(connection, "m", rows, b"old", {}, "first 5")
    [known] = baselines.versions(connection, "m")
    earlier = known.pinned_at - timedelta(microseconds=1)
    baselines.replace_detector(connection, "m", 1, earlier, b"of another")
    assert baselines.load(connection, "m", 1).detector == b"old"
    baselines.replace_detector(connection, "m", 1, known.pinned_at, b"new")
    assert baselines.load(connection, "m", 1).detector == b"new"


@pytest.mark.usefixtures("filled")
def test_the_oldest_version_is_dropped_with_its_vectors(
    connection: psycopg.Connection,
) -> None:
    rows = select(connection, "m", Selection(first=5))
    for _ in range(baselines.KEPT_VERSIONS + 1):
        baselines.create(connection, "m", rows, b"", {}, "first 5")
    left = connection.execute("select distinct version from baseline_embedding order by 1")
    assert left.fetchall() == [(2,), (3,), (4,)]
    with pytest.raises(NotFound, match="m has no baseline 1"):
        baselines.load(connection, "m", 1)


def test_indexes_that_the_release_before_makes_are_dropped_and_no_others(
    connection: psycopg.Connection,
) -> None:
    found = "select indexname from pg_indexes where tablename = 'baseline_embedding' order by 1"
    others = connection.execute(found).fetchall()
    for version in (1, 12):
        connection.execute(
            f"create index baseline_{'0a' * 16}_{version} on baseline_embedding using hnsw"
            f" ((embedding::vector(3)) vector_cosine_ops) where version = {version}".encode()
        )
    assert len(connection.execute(found).fetchall()) == len(others) + 2
    baselines.drop_indexes(connection)
    assert connection.execute(found).fetchall() == others
    baselines.drop_indexes(connection)


def test_the_indexes_of_another_store_in_the_database_are_never_dropped(
    connection: psycopg.Connection, staging: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process drops the same index of the same store first."""
    name = f"baseline_{'0a' * 16}_1"
    create = f"create index {name} on baseline_embedding (version)".encode()
    connection.execute(create)
    lock = baselines.lock

    def overtaken(own: psycopg.Connection) -> None:
        connection.execute(f"drop index staging.{name}".encode())
        lock(own)

    with connect(staging) as own:
        own.execute(create)
        monkeypatch.setattr(baselines, "lock", overtaken)
        baselines.drop_indexes(own)
    assert connection.execute("select to_regclass(%s) is not null", [name]).fetchone() == (True,)


def test_a_search_does_not_wait_for_the_drop_of_an_index(
    store: str, connection: psycopg.Connection
) -> None:
    connection.execute(
        f"create index baseline_{'0a' * 16}_1 on baseline_embedding (version)".encode()
    )
    with connect(store) as searching, searching.transaction():
        searching.execute("select from baseline_embedding")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            baselines.drop_indexes(connection)
    baselines.drop_indexes(connection)
