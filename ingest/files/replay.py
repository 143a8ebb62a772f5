"""Send the vectors of a file to a service, in batches and at a rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import embedding_drift_client
from ingest.files.rows import Rows
from ingest.runtime.errors import MonitorError, SettingsError


def batches(blocks: Iterable[Rows], size: int) -> Iterator[Rows]:
    """Cut blocks of rows into batches of at most ``size`` vectors."""
    for block in blocks:
        for at in range(0, len(block), size):
            yield block.pick(range(at, min(at + size, len(block))))


def paced(
    parts: Iterable[Rows],
    rate: float | None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Rows]:
    """Yield batches at no more than ``rate`` vectors per second; None means no limit."""
    due = clock()
    for part in parts:
        sleep(max(0.0, due - clock()))
        yield part
        if rate is not None:
            due += len(part) / rate


@contextmanager
def sending(url: str, model_name: str, token: str | None = None) -> Iterator[Callable[[Rows], int]]:
    """Connect to a service; gives a function that sends a batch and returns the number stored.

    Parameters
    ----------
    url : str
        Address of the service.
    model_name : str
    token : str, optional
        Bearer token with the scope ``write``.

    Raises
    ------
    SettingsError
        If the address or the token is not usable.
    MonitorError
        If the model's name is not allowed, or a batch cannot be delivered.
    """

    def send(rows: Rows) -> int:
        return sender.send(rows.vectors, rows.ids or None, rows.metadata or None).stored

    try:
        with embedding_drift_client.Sender(url, model_name, token=token) as sender:
            yield send
    except embedding_drift_client.SettingsError as error:
        raise SettingsError(str(error)) from error
    except embedding_drift_client.ClientError as error:
        raise MonitorError(str(error)) from error
