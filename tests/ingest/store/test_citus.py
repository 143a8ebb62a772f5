"""Distribute every table by model, once.

Citus does not run here. A function replaces its own and refuses what Citus refuses: a unique
index without the distribution column, a foreign key, and colocation by a column of another type.
"""

from __future__ import annotations

import psycopg
import pytest

from ingest.runtime.errors import SettingsError
from ingest.store.citus import TABLES, distribute

STAND_IN = """
create table pg_dist_partition (logicalrel regclass primary key);
create function create_distributed_table(target regclass, by text, colocate_with text)
returns void language plpgsql as $$
declare kind regtype;
begin
    select atttypid into strict kind from pg_attribute where attrelid = target and attname = by;
    if exists (
        select from pg_index where indrelid = target and indisunique and not exists (
            select from pg_attribute where attrelid = target and attname = by
            and attnum = any (indkey::smallint[])))
    then raise 'a unique index of % lacks %', target, by; end if;
    if exists (select from pg_constraint where conrelid = target and contype = 'f')
    then raise '% has a foreign key', target; end if;
    if colocate_with <> 'default' and kind <> (
        select atttypid from pg_attribute
        where attrelid = colocate_with::regclass and attname = by)
    then raise '% cannot be colocated with %', target, colocate_with; end if;
    insert into pg_dist_partition values (target);
end $$;
"""


@pytest.fixture
def cluster(connection: psycopg.Connection) -> psycopg.Connection:
    connection.execute(STAND_IN.encode())
    # The extension is not installed; `distribute` only looks for its name in the catalogue.
    connection.execute(
        "insert into pg_extension (oid, extname, extowner, extnamespace, extrelocatable,"
        " extversion) select 99999, 'citus', extowner, extnamespace, false, '13.0'"
        " from pg_extension where extname = 'vector'"
    )
    return connection


def test_every_table_is_distributed_by_model_once(cluster: psycopg.Connection) -> None:
    assert distribute(cluster) == list(TABLES)
    assert distribute(cluster) == []


def test_every_table_of_the_schema_is_listed(connection: psycopg.Connection) -> None:
    found = connection.execute(
        "select relname from pg_class where relnamespace = 'public'::regnamespace"
        " and relkind in ('r', 'p') and not relispartition"
    )
    assert {name for (name,) in found} - {"migration", "upkeep"} == set(TABLES)


def test_an_interrupted_distribution_can_be_continued(cluster: psycopg.Connection) -> None:
    cluster.execute("select create_distributed_table('model', 'model_name', 'default')")
    assert distribute(cluster) == list(TABLES[1:])


def test_a_database_without_citus_is_an_error(connection: psycopg.Connection) -> None:
    with pytest.raises(SettingsError, match="create extension citus"):
        distribute(connection)
