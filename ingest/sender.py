"""Sender: takes batches of vectors to ``POST /embeddings``, each stored once."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import random
import re
import ssl
import time
import uuid
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from typing import Annotated, Any

import httpx2
import msgspec

from ingest.files.rows import Rows
from ingest.formats import checks
from ingest.runtime.errors import (
    BodyTooLarge,
    DimensionMismatch,
    Forbidden,
    IdempotencyConflict,
    MonitorError,
    PayloadError,
    Problem,
    SettingsError,
    Unauthorized,
    Undelivered,
    UnsupportedMediaType,
)

_log = logging.getLogger(__name__)

ATTEMPTS = 8
"""About a minute of trying."""
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_LONGEST_RETRY_AFTER_SECONDS = 3600.0
_TOLD_AT_ATTEMPT = 3
_TIMEOUT = httpx2.Timeout(60.0, connect=10.0)

_TRANSIENT = frozenset({408, 429, 502, 503, 504})
_REFUSALS: dict[int, type[MonitorError]] = {
    kind.status: kind
    for kind in (
        Unauthorized,
        Forbidden,
        DimensionMismatch,
        BodyTooLarge,
        UnsupportedMediaType,
        IdempotencyConflict,
    )
}

_Count = Annotated[int, msgspec.Meta(ge=0)]
Outcome = httpx2.Response | httpx2.RequestError


class Answer(msgspec.Struct, frozen=True):
    """What the service did with a batch: vectors it stored, and had stored before by their ids."""

    stored: _Count
    duplicates: _Count


class _Route:
    """Where batches go, whose they are, and how hard to try."""

    def __init__(
        self,
        url: str,
        model_name: str,
        token: str | None,
        verify: str | os.PathLike[str] | None,
        attempts: int,
    ) -> None:
        base = _parsed(url)
        # Apart from the address, which is logged.
        self._url = f"{str(base.copy_with(userinfo=b'')).rstrip('/')}/embeddings"
        self._model_name = checks.model_name(model_name, "model name")
        self._attempts = attempts
        self._options: dict[str, Any] = {
            "headers": {} if token is None else {"Authorization": _bearer(token)},
            "auth": (base.username, base.password) if base.username and token is None else None,
            "verify": _trust(verify),
            "timeout": _TIMEOUT,
        }

    def _delivery(self, rows: Rows) -> Delivery:
        return Delivery(self._url, *_encode(rows, self._model_name), self._attempts)


class Sender(_Route):
    """Sends batches of one model to a service; a context manager.

    Parameters
    ----------
    url : str
        Where the service listens, without the path of an endpoint. It may hold the user and
        password of basic authentication.
    model_name : str
    token : str, optional
        Bearer token with the scope ``write``.
    verify : path, optional
        File of the certificates to trust, in place of the system's.
    attempts : int
        How often a batch is sent before it is given up.
    sleep : callable
        Waits for seconds between attempts.

    Raises
    ------
    SettingsError
        If the address, token or file cannot be used.
    PayloadError
        If the model's name is illegal.
    """

    def __init__(
        self,
        url: str,
        model_name: str,
        *,
        token: str | None = None,
        verify: str | os.PathLike[str] | None = None,
        attempts: int = ATTEMPTS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(url, model_name, token, verify, attempts)
        self._http = httpx2.Client(**self._options)
        self._sleep = sleep

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def send(self, rows: Rows) -> Answer:
        """Send one batch, again while there is hope.

        Returns
        -------
        Answer
            What the service did with the vectors.

        Raises
        ------
        PayloadError
            If the service refuses the batch; ``problems`` has the index of each bad vector.
        Unauthorized, Forbidden
            If it asks for other credentials.
        Undelivered
            If it stays out of reach, or is another service.
        """
        delivery = self._delivery(rows)
        while (pause := delivery.judge(self._attempt(delivery))) is not None:
            self._sleep(pause)
        return delivery.answer

    def _attempt(self, delivery: Delivery) -> Outcome:
        try:
            return self._http.post(delivery.url, content=delivery.body, headers=delivery.headers)
        except httpx2.RequestError as error:
            return error


class AsyncSender(_Route):
    """The same for an event loop; an asynchronous context manager."""

    def __init__(
        self,
        url: str,
        model_name: str,
        *,
        token: str | None = None,
        verify: str | os.PathLike[str] | None = None,
        attempts: int = ATTEMPTS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(url, model_name, token, verify, attempts)
        self._http = httpx2.AsyncClient(**self._options)
        self._sleep = sleep

    async def __aenter__(self) -> AsyncSender:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def send(self, rows: Rows) -> Answer:
        """Send one batch as :meth:`Sender.send` does."""
        delivery = self._delivery(rows)
        while (pause := delivery.judge(await self._attempt(delivery))) is not None:
            await self._sleep(pause)
        return delivery.answer

    async def _attempt(self, delivery: Delivery) -> Outcome:
        try:
            return await self._http.post(
                delivery.url, content=delivery.body, headers=delivery.headers
            )
        except httpx2.RequestError as error:
            return error


class Delivery:
    """One batch on its way: what to send, and what each attempt's outcome means. No I/O.

    Attributes
    ----------
    url : str
    body : bytes
    headers : dict
        With an ``Idempotency-Key``: however often it is sent, it is stored once.
    answer : Answer
        The service's, once it is delivered.
    """

    def __init__(
        self,
        url: str,
        body: bytes,
        headers: dict[str, str],
        attempts: int,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.url = url
        self.body = body
        self.headers = headers | {"Idempotency-Key": uuid.uuid4().hex}
        self.answer = Answer(0, 0)
        self._attempt = 0
        self._attempts = attempts
        self._jitter = jitter

    def judge(self, outcome: Outcome) -> float | None:
        """Give the seconds to pause before the next attempt; None when the batch is delivered.

        Raises
        ------
        MonitorError
            If there shall be no next attempt.
        """
        self._attempt += 1
        asked = 0.0
        if isinstance(outcome, httpx2.Response):
            if outcome.is_success:
                self.answer = _answer(outcome, self.url)
                return None
            failure = _refusal(outcome, self.url)
            if outcome.status_code not in _TRANSIENT:
                raise failure
            asked = _retry_after(outcome)
        else:
            failure = Undelivered(f"{self.url}: {outcome or type(outcome).__name__}")
        if self._attempt >= self._attempts:
            raise Undelivered(f"given up after {self._attempts} attempts; {failure}")
        if self._attempt == _TOLD_AT_ATTEMPT:
            _log.warning("%s; trying on", failure)
        return self._pause(asked)

    def _pause(self, asked: float) -> float:
        backoff = min(_FIRST_PAUSE_SECONDS * 2.0 ** (self._attempt - 1), _LONGEST_PAUSE_SECONDS)
        # Never sooner than asked, and not all clients at once.
        return max(backoff, asked) * (1 + self._jitter() / 2)


class _Refusal(msgspec.Struct):
    detail: str
    errors: list[Problem] = []


def _answer(response: httpx2.Response, url: str) -> Answer:
    try:
        return msgspec.json.decode(response.content, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Undelivered(
            f"{url} answers {response.status_code}, but not as this service does: {error}"
        ) from error


def _refusal(response: httpx2.Response, url: str) -> MonitorError:
    status = response.status_code
    try:
        told = msgspec.json.decode(response.content, type=_Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # A proxy's page, say.
        told = _Refusal(response.reason_phrase)
    otherwise = PayloadError if 400 <= status < 500 else Undelivered
    kind = _REFUSALS.get(status, otherwise)
    return kind(f"{url} answers {status}: {told.detail}", told.errors)


def _retry_after(response: httpx2.Response) -> float:
    """Read the header's seconds or date; what cannot be read asks for nothing."""
    value = response.headers.get("Retry-After", "")
    if re.fullmatch("[0-9]{1,10}", value):
        seconds = float(value)
    else:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            seconds = 0.0
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_SECONDS)


def _encode(rows: Rows, model_name: str) -> tuple[bytes, dict[str, str]]:
    vectors = rows.vectors.astype("<f4", copy=False)
    if not rows.ids and not rows.metadata:
        return vectors.tobytes(), {
            "Content-Type": "application/octet-stream",
            "X-Model-Name": model_name,
            "X-Dimension": str(vectors.shape[1]),
        }
    body: dict[str, Any] = {
        "model_name": model_name,
        "embeddings": [base64.b64encode(vector.tobytes()).decode() for vector in vectors],
    }
    if rows.ids:
        body["ids"] = rows.ids
    if rows.metadata:
        body["metadata"] = rows.metadata
    return msgspec.json.encode(body), {"Content-Type": "application/json"}


def _parsed(url: str) -> httpx2.URL:
    shown = url.rpartition("@")[2]
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise SettingsError(f"{shown}: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise SettingsError(f"{shown}: must begin with http:// or https:// and name a host")
    return parsed


def _bearer(token: str) -> str:
    if not re.fullmatch("[!-~]+", token):
        raise SettingsError("the token must be visible ASCII characters, without spaces")
    return f"Bearer {token}"


def _trust(verify: str | os.PathLike[str] | None) -> ssl.SSLContext | bool:
    if verify is None:
        return True
    try:
        return ssl.create_default_context(cafile=verify)
    except OSError as error:
        raise SettingsError(f"{verify}: is no file of certificates: {error}") from error
