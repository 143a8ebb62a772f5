"""Rights: what is missing is named with its grant, and what is granted is enough."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from psycopg.conninfo import make_conninfo

from ingest.runtime.errors import SettingsError, StoreUnavailable
from ingest.store import (
    baselines,
    canaries,
    changes,
    explanations,
    history,
    models,
    neighbours,
    positions,
    reports,
    rights,
)
from ingest.store.batch import Batch
from ingest.store.canaries import CanarySet, Moved
from ingest.store.connection import AsyncConnection, connect
from ingest.store.explanations import ExplanationRow
from ingest.store.history import HistoryRow
from ingest.store.migrate import migrate
from ingest.store.newest import newest
from ingest.store.pool import async_pool
from ingest.store.selection import Selection, select
from ingest.store.vectors import Stored, insert
from tests.service import command, drift, post, serving, wait_for

ROW = HistoryRow("m", "fast", "ok", 100, 1, 1.5)


@pytest.fixture
def app(connection: psycopg.Connection, store: str) -> Iterator[str]:
    """Connection string of a role that has no rights in the store."""
    role = f"app-{uuid.uuid4().hex}"
    connection.execute(f"create role \"{role}\" login password 'secret'".encode())
    yield make_conninfo(store, user=role, password="secret")
    connection.execute(f'drop owned by "{role}"; drop role "{role}"'.encode())


def missing(app: str, command: str) -> list[str]:
    """The statements that the check of a command asks for."""
    with connect(app) as own:
        try:
            rights.check(own, command)
        except SettingsError as error:
            return [problem.reason for problem in error.problems]
    return []


def grant_needed(connection: psycopg.Connection, app: str, command: str) -> None:
    for statement in missing(app, command):
        connection.execute(statement.encode())
    assert missing(app, command) == []


def vectors(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=(count, 4)).astype(np.float32)


def send(app: str, batch: Batch) -> list[object]:
    async def run() -> list[object]:
        async with async_pool(app, 1) as pool, pool.connection() as own:
            return list(await insert(own, [batch], 10))

    return asyncio.run(run())


@pytest.mark.parametrize("name", rights.NEEDED)
def test_a_missing_right_is_named_with_the_statement_that_grants_it(
    connection: psycopg.Connection, app: str, name: str
) -> None:
    everything = missing(app, name)
    assert len(everything) == len(rights.NEEDED[name])
    role = psycopg.conninfo.conninfo_to_dict(app)["user"]
    assert all(re.fullmatch(rf'grant [a-z, ]+ on "\w+" to "{role}"', s) for s in everything)
    *others, last = everything
    for statement in others:
        connection.execute(statement.encode())
    assert missing(app, name) == [last]
    connection.execute(last.encode())
    assert missing(app, name) == []


def test_migrate_grants_what_all_commands_need(connection: psycopg.Connection, app: str) -> None:
    role = str(psycopg.conninfo.conninfo_to_dict(app)["user"])
    connection.execute("revoke usage on schema public from public")
    rights.grant(connection, role)
    for name in rights.NEEDED:
        assert missing(app, name) == []


def test_a_schema_that_the_role_may_not_use_is_named(
    connection: psycopg.Connection, app: str
) -> None:
    connection.execute("create schema ext; alter extension vector set schema ext")
    connection.execute("revoke usage on schema public from public")
    role = psycopg.conninfo.conninfo_to_dict(app)["user"]
    assert missing(app, "ingest") == [
        f'grant usage on schema "ext" to "{role}"',
        f'grant usage on schema "public" to "{role}"',
    ]


def test_a_store_of_others_in_the_database_needs_no_rights(
    connection: psycopg.Connection, app: str, staging: str
) -> None:
    """Nor does anything else that somebody names like one of our tables."""
    connection.execute("create schema mine; create view mine.baseline_in_use as select")
    grant_needed(connection, app, "serve")
    assert missing(app, "serve") == []


def test_a_table_that_the_store_lacks_is_not_that_of_another_store(
    connection: psycopg.Connection, staging: str
) -> None:
    """As between the start of a new release and its migration."""
    connection.execute("drop table staging.slice_history")
    with connect(staging) as own, pytest.raises(StoreUnavailable, match="has no schema"):
        rights.check(own, "exporter")


def test_a_closed_schema_is_named_if_the_search_path_has_it(
    connection: psycopg.Connection, app: str
) -> None:
    role = str(psycopg.conninfo.conninfo_to_dict(app)["user"])
    connection.execute(f'alter schema public rename to "{role}"'.encode())
    connection.execute(f'revoke usage on schema "{role}" from public'.encode())
    expected = [f'grant usage on schema "{role}" to "{role}"']
    assert missing(app, "ingest") == expected
    # Also if the path has another store behind it.
    connection.execute("create schema other; create view other.baseline_embedding as select")
    connection.execute(f'grant usage on schema other to "{role}"'.encode())
    named = make_conninfo(app, options=f'-c search_path="{role}","other"')
    assert missing(named, "ingest") == expected


def test_a_store_in_its_owners_schema_is_found_as_migrate_says(
    folder: Path, connection: psycopg.Connection, app: str
) -> None:
    connection.execute("drop schema public cascade; create schema public; create schema owners")
    connection.execute("create extension vector schema public")
    store = make_conninfo(connection.info.dsn, options="-c search_path=owners")
    config = folder / "config.yaml"
    config.write_text(json.dumps({"database": {"connection_string": store}}))
    role = str(psycopg.conninfo.conninfo_to_dict(app)["user"])
    granting = [*command(config, "migrate"), "--grant", role]
    done = subprocess.run(granting, capture_output=True, text=True, timeout=240, check=True)
    statement = (
        f'alter role "{role}" in database "{connection.info.dbname}" set search_path = "owners"'
    )
    assert f"so that {role} finds the tables, run in SQL: {statement}\n" in done.stdout
    with connect(app) as own:
        with pytest.raises(StoreUnavailable, match=re.escape(f"run in SQL: {statement}")):
            rights.check(own, "serve")
        with pytest.raises(SettingsError, match=re.escape(f"run in SQL: {statement}")):
            migrate(own)
        own.execute(statement.encode())
    assert missing(app, "serve") == []
    with connect(app) as own:
        assert migrate(own) == []


def test_a_store_without_a_schema_is_not_a_lack_of_rights(empty_database: str) -> None:
    with connect(empty_database) as own, pytest.raises(StoreUnavailable, match="has no schema"):
        rights.check(own, "exporter")


def test_only_the_owner_grants_and_only_to_a_role_that_exists(
    connection: psycopg.Connection, app: str
) -> None:
    with pytest.raises(SettingsError, match='no such role; in SQL: create role "nobody" login'):
        rights.grant(connection, "nobody")
    with connect(app) as own, pytest.raises(SettingsError, match="may not grant: permission"):
        rights.grant(own, "pg_monitor")


def test_the_rights_of_ingest_are_enough(connection: psycopg.Connection, app: str) -> None:
    grant_needed(connection, app, "ingest")
    batch = Batch("m", vectors(5), ids=list("abcde"), idempotency_key="k", fingerprint=b"f")
    assert send(app, batch) == [Stored(5, 0)]
    assert send(app, batch) == [Stored(5, 0, replayed=True)]
    revised = Batch("m", -vectors(5), ids=list("abcde"))
    assert send(app, revised) == [Stored(5, 0, 5)]
    assert send(app, Batch("m", np.ones((1, 5), np.float32)))
    with connect(app) as own:
        baselines.rows(own, "m", 1, 4)
        # What the pages show.
        reports.glances(own)
        assert reports.watched(own) == 0
        assert explanations.drifts(own, "m", 0, 1, 50) == []
        assert explanations.at(own, "m", 1.0, 900) == []

    async def search() -> None:
        async with async_pool(app, 1) as pool, pool.connection() as own:
            assert len(await neighbours.stored_vector(own, "m", "a")) == 4

    asyncio.run(search())


def test_the_rights_of_an_exporter_are_enough(connection: psycopg.Connection, app: str) -> None:
    send(connection.info.dsn, Batch("m", vectors(300)))
    grant_needed(connection, app, "exporter")
    with connect(app) as own:
        [model] = changes.models(own)
        assert len(changes.vectors(own, model, 0, None)) == 300
        rows = select(own, "m", Selection(first=250))
        for version in range(1, baselines.KEPT_VERSIONS + 2):
            assert baselines.create(own, "m", rows, b"", {}, "first", version - 1) == version
        known = {each.version: each for each in baselines.versions(own, "m")}
        baselines.replace_detector(own, "m", 2, known[2].pinned_at, b"new")
        with models.hold(own, [model]) as held:
            assert held == {"m"}
        history.append(own, [ROW])
        assert len(history.times(own, "m", "fast", 1)) == 1
        told = ExplanationRow("m", "fast", "", 1.0, 0, 1.0, 1.0, 1, "what changed", {})
        explanations.see(own, explanations.keep(own, told, 900), 2.0)


@pytest.mark.parametrize("name", ["baseline pin", "baseline use", "backfill", "model remove"])
def test_the_rights_of_a_command_are_enough(
    connection: psycopg.Connection, app: str, name: str
) -> None:
    send(connection.info.dsn, Batch("m", vectors(300), ids=[str(n) for n in range(300)]))
    rows = select(connection, "m", Selection(first=250))
    for _ in range(baselines.KEPT_VERSIONS):
        baselines.create(connection, "m", rows, b"", {}, "first 250")
    grant_needed(connection, app, name)
    with connect(app) as own:
        if name == "baseline pin":
            assert baselines.create(own, "m", rows, b"", {}, "first 250") == 4
            assert len(baselines.versions(own, "m")) == baselines.KEPT_VERSIONS
        elif name == "baseline use":
            baselines.use(own, "m", 1)
        elif name == "backfill":
            assert baselines.create_from_vectors(own, "new", rows, b"", {}, "file") == 1
            history.fill(own, [(1.0, ROW), (1.0, ROW)])
        else:
            models.remove(own, "m")
            assert models.summaries(connection) == []


def keep_canaries(store: str) -> Moved:
    given = CanarySet("m", "set", ["canary:set:0"], np.ones((1, 4), np.float32))

    async def run() -> Moved:
        async with await AsyncConnection.connect(store, autocommit=True) as own:
            return await canaries.insert(own, given, 10)

    return asyncio.run(run())


def test_the_rights_of_ingest_are_enough_for_canaries(
    connection: psycopg.Connection, app: str
) -> None:
    grant_needed(connection, app, "ingest")
    assert keep_canaries(app).is_reference
    for _ in range(canaries.KEPT_SETS + 1):  # the oldest are deleted
        assert not keep_canaries(app).is_reference
    # As of a clock that was ahead: they are dated back.
    connection.execute("update canary set received_at = received_at + interval '2 hours'")
    assert not keep_canaries(app).is_reference


def described(own: psycopg.Connection) -> object:
    version = baselines.in_use(own, "m")
    assert version is not None
    return baselines.described(own, "m", version, 4)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("canary accept", lambda own: canaries.accept(own, "m")),
        ("canary remove", lambda own: canaries.remove(own, "m")),
        ("model resolve", lambda own: models.resolve_dimension(own, "m")),
        ("explain", described),
        ("explain", lambda own: newest(own, "m", 4, 60, 10)),
        ("explain", lambda own: explanations.at(own, "m", 1.0, 900)),
    ],
    ids=[
        *("canary accept", "canary remove", "model resolve"),
        *("explain baseline", "explain window", "explain past"),
    ],
)
def test_the_rights_of_a_small_command_are_enough(
    connection: psycopg.Connection,
    app: str,
    name: str,
    command: Callable[[psycopg.Connection], object],
) -> None:
    send(connection.info.dsn, Batch("m", vectors(300)))
    rows = select(connection, "m", Selection(first=250))
    baselines.create(connection, "m", rows, b"", {}, "first 250")
    keep_canaries(connection.info.dsn)
    grant_needed(connection, app, name)
    with connect(app) as own:
        command(own)


def test_the_rights_of_watch_are_enough(connection: psycopg.Connection, app: str) -> None:
    grant_needed(connection, app, "watch")

    async def follow() -> None:
        async with async_pool(app, 1) as pool, pool.connection() as own:
            for position in ("1", "2"):
                await positions.save(own, "m", "docs", positions.Progress((position,)))
            assert await positions.load(own, "m", "docs") == positions.Progress(("2",))

    asyncio.run(follow())


def test_a_role_with_few_rights_serves_and_the_owners_upkeep_makes_its_partitions(
    folder: Path, connection: psycopg.Connection, app: str, store: str
) -> None:
    config = folder / "config.yaml"
    config.write_text(
        f'database: {{connection_string: "{app}", admin_connection_string: "{store}"}}\n'
        "monitoring: {poll_interval: 0.1, baseline: {vectors: 300}}\nserver: {port: 0}\n"
    )
    role = str(psycopg.conninfo.conninfo_to_dict(app)["user"])
    refused = subprocess.run(command(config, "serve"), capture_output=True, text=True, timeout=240)
    assert refused.returncode == 2
    assert f"embedding-drift migrate --grant {role}" in refused.stderr
    assert f'grant insert, select on "embedding" to "{role}"' in refused.stderr
    assert "Traceback" not in refused.stderr
    granted = [*command(config, "migrate"), "--grant", role]
    done = subprocess.run(granted, capture_output=True, text=True, timeout=240, check=True)
    assert f"granted: what all commands need, to {role}" in done.stdout
    with serving(config) as service:
        assert post(service.url, vectors(400)).status_code == 201

        def is_pinned() -> bool:
            return drift(service.url).get("baseline") is not None

        wait_for(is_pinned, "the baseline")
        forget_partitions(connection)
        assert post(service.url, vectors(10)).status_code == 201


def test_without_its_owner_the_end_of_the_partitions_is_announced_and_named(
    folder: Path, connection: psycopg.Connection, app: str
) -> None:
    config = folder / "config.yaml"
    config.write_text(f'database: {{connection_string: "{app}"}}\nserver: {{port: 0}}\n')
    rights.grant(connection, str(psycopg.conninfo.conninfo_to_dict(app)["user"]))
    with serving(config) as service:
        assert "so it leaves upkeep to a process with" in service.log.read_text()
        assert post(service.url, vectors(10)).status_code == 201
        forget_partitions(connection)
        answer = post(service.url, vectors(10))
        assert answer.status_code == 503
        assert "set database.admin_connection_string" in answer.json()["detail"]


def forget_partitions(connection: psycopg.Connection) -> None:
    """As if the prepared days were over."""
    rows = connection.execute(
        "select inhrelid::regclass::text from pg_inherits"
        " where inhparent = 'embedding'::regclass order by 1"
    ).fetchall()
    for (name,) in rows:
        connection.execute(f"drop table {name}".encode())
