"""Clients: how many there are, and which goes for another."""

from __future__ import annotations

import pytest

from ingest.runtime.errors import QueueFull
from ingest.runtime.http.clients import Clients


class Client:
    """A connection that tells when it is closed."""

    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


def test_the_longest_idle_goes_for_another() -> None:
    reasons: list[str] = []
    clients = Clients(3, reasons.append)
    some = [Client() for _ in range(3)]
    for client in some:
        clients.admit()
        clients.rest(client)
    clients.resume(some[0])
    clients.rest(some[0])
    clients.admit()
    assert [client.is_closed for client in some] == [False, True, False]
    assert reasons == ["idle"]


def test_one_more_is_refused_while_all_have_requests() -> None:
    clients = Clients(1, str)
    only = Client()
    clients.admit()
    with pytest.raises(QueueFull, match="1 connections have requests under way"):
        clients.admit()
    assert not only.is_closed
    clients.lose(only)
    clients.admit()
