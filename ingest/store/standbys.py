"""Standbys: whether a commit waits for a second copy of what it wrote."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import psycopg

Replication = Literal["synchronous", "asynchronous", "hidden"]
REPLICATIONS: tuple[Replication, ...] = get_args(Replication)
"""How a standby follows its primary.

synchronous : commits wait for it, or for enough of several such standbys
asynchronous : commits do not wait: what was acknowledged is lost if it is promoted too early
hidden : the role may not see it; it needs pg_monitor
"""


class Standbys(NamedTuple):
    """Number of standbys that stream from the primary, by their replication."""

    synchronous: int
    asynchronous: int
    hidden: int

    @property
    def trouble(self) -> str | None:
        """Say why acknowledged vectors may be lost at a failover."""
        # Those that the role may not see may be synchronous.
        if self.asynchronous and not (self.synchronous or self.hidden):
            return (
                f"no commit waits for any of {self.asynchronous} standbys: if one is promoted,"
                " acknowledged vectors may be lost; set synchronous_standby_names, unless none"
                " is ever promoted"
            )
        return None


def read(connection: psycopg.Connection) -> Standbys | None:
    """Count the standbys of the primary.

    Subscribers of logical replication, backups and ``pg_receivewal`` are no standbys.

    Returns
    -------
    Standbys or None
        None from a server that is a standby itself.
    """
    row = connection.execute(
        "select pg_is_in_recovery(),"
        " count(*) filter (where sync_state in ('sync', 'quorum')),"
        " count(*) filter (where sync_state in ('async', 'potential')),"
        " count(*) filter (where sender.pid is not null and sync_state is null)"
        " from pg_stat_replication as sender where state is distinct from 'backup'"
        " and application_name is distinct from 'pg_receivewal' and not exists"
        " (select from pg_replication_slots where active_pid = sender.pid"
        " and slot_type = 'logical')"
    ).fetchone()
    assert row is not None
    return None if row[0] else Standbys(*row[1:])
