"""Conservation: whatever happens to a table, its new vectors are stored, and none is stored twice.

Random sequences are checked against what `docs/watch.md` promises, on a real PostgreSQL.
"""

from __future__ import annotations

import psycopg
import pytest

from tests.ingest.watch import conservation
from tests.ingest.watch.bench import Bench
from tests.ingest.watch.table import Kind

KINDS = {
    "by id": Kind(),
    "by time": Kind(id="md5(n::text)::uuid", time="updated_at"),
    "a view by id": Kind(is_view=True),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_the_table_gets_is_stored_once(
    bench: Bench,
    connection: psycopg.Connection,
    kind: Kind,
    long: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A poll reads several blocks of rows, and may fail between them.
    monkeypatch.setattr("ingest.watch.sources.postgres.BLOCK", 3)
    conservation.run(bench, connection, kind, examples=300 if long else 15)
