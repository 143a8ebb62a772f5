"""SIGHUP: remembered until somebody follows it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from ingest.runtime import hangup


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(hangup, "_came", False)
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


def test_signals_that_came_before_are_followed_once_and_later_ones_each_time() -> None:
    reloads: list[int] = []
    hangup.remember()
    signal.raise_signal(signal.SIGHUP)
    signal.raise_signal(signal.SIGHUP)
    hangup.follow(lambda: reloads.append(1))
    assert len(reloads) == 1
    signal.raise_signal(signal.SIGHUP)
    assert len(reloads) == 2


def test_nothing_is_followed_if_no_signal_came() -> None:
    reloads: list[int] = []
    hangup.remember()
    hangup.follow(lambda: reloads.append(1))
    assert reloads == []
