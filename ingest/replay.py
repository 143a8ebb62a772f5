"""Replay: sends vectors to ``POST /embeddings``, at a rate, each once."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpx2
import msgspec

from ingest.payload import checks
from ingest.runtime.errors import PayloadError, StoreUnavailable
from ingest.vectorfile import Rows

_ATTEMPTS = 8
_LONGEST_PAUSE_SECONDS = 30.0
_TIMEOUT_SECONDS = 60.0


class Sender:
    """Sends batches of one model to a service.

    Parameters
    ----------
    url : str
        Where the service listens, without a path.
    model_name : str
    sleep : callable
        Waits for seconds between attempts.

    Raises
    ------
    PayloadError
        If the model's name is illegal.
    """

    def __init__(
        self, url: str, model_name: str, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._url = f"{url.rstrip('/')}/embeddings"
        self._model_name = checks.model_name(model_name, "model name")
        self._sleep = sleep
        self._client = httpx2.Client(timeout=_TIMEOUT_SECONDS)

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def send(self, rows: Rows) -> int:
        """Send one batch, again while the service asks for patience.

        Returns
        -------
        int
            Vectors stored: all but those whose ids were stored before.

        Raises
        ------
        PayloadError
            If the service refuses the batch, or is another service.
        StoreUnavailable
            If it stays out of reach.
        """
        content, headers = _encode(rows, self._model_name)
        # However often it is sent, it is stored once.
        headers["Idempotency-Key"] = uuid.uuid4().hex
        pause = 0.5
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                response = self._client.post(self._url, content=content, headers=headers)
            except httpx2.UnsupportedProtocol as error:
                raise PayloadError(f"{self._url}: must begin with http:// or https://") from error
            except httpx2.TransportError as error:
                failure = f"{self._url}: {error}"
            else:
                if response.is_success:
                    return self._stored(response)
                failure = f"{self._url} answers {response.status_code}: {_detail(response)}"
                if response.status_code not in (429, 503):
                    raise PayloadError(failure)
                pause = max(pause, _retry_after(response))
            if attempt < _ATTEMPTS:
                self._sleep(min(pause, _LONGEST_PAUSE_SECONDS))
                pause *= 2
        raise StoreUnavailable(f"given up after {_ATTEMPTS} attempts; {failure}")

    def _stored(self, response: httpx2.Response) -> int:
        try:
            return msgspec.json.decode(response.content, type=_Answer).stored
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise PayloadError(
                f"{self._url} answers {response.status_code}, but not as this service does: {error}"
            ) from error


class _Answer(msgspec.Struct):
    stored: int


def batches(blocks: Iterable[Rows], size: int) -> Iterator[Rows]:
    """Cut blocks of rows into batches of at most ``size`` vectors."""
    for block in blocks:
        for at in range(0, len(block), size):
            part = slice(at, at + size)
            yield Rows(block.vectors[part], block.ids[part], block.metadata[part])


def paced(
    parts: Iterable[Rows],
    rate: float | None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Rows]:
    """Hand on batches no faster than ``rate`` vectors a second; None does not wait."""
    due = clock()
    for part in parts:
        sleep(max(0.0, due - clock()))
        yield part
        if rate is not None:
            due += len(part) / rate


def _encode(rows: Rows, model_name: str) -> tuple[bytes, dict[str, str]]:
    if not rows.ids and not rows.metadata:
        headers = {
            "Content-Type": "application/octet-stream",
            "X-Model-Name": model_name,
            "X-Dimension": str(rows.vectors.shape[1]),
        }
        return rows.vectors.astype("<f4", copy=False).tobytes(), headers
    body: dict[str, Any] = {
        "model_name": model_name,
        "embeddings": [base64.b64encode(v.astype("<f4").tobytes()).decode() for v in rows.vectors],
    }
    if rows.ids:
        body["ids"] = rows.ids
    if rows.metadata:
        body["metadata"] = rows.metadata
    return msgspec.json.encode(body), {"Content-Type": "application/json"}


def _detail(response: httpx2.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase


def _retry_after(response: httpx2.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else 0.0
