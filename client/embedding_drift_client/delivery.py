"""Send vectors to ``POST /embeddings`` and canaries to ``POST /canaries``, each batch once."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import logging
import math
import os
import random
import re
import ssl
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Generic, TypeVar

import httpx2
from numpy.typing import ArrayLike

from embedding_drift_client import canaries
from embedding_drift_client.canaries import AsyncEncode, Encode
from embedding_drift_client.errors import (
    BodyTooLarge,
    ClientError,
    DimensionMismatch,
    Forbidden,
    IdempotencyConflict,
    PayloadError,
    Problem,
    SettingsError,
    Unauthorized,
    Undelivered,
    refusal,
)
from embedding_drift_client.losses import NO_LOSSES, Losses
from embedding_drift_client.parameters import as_count
from embedding_drift_client.rows import Ids, Metadata, Rows, Timestamps, read

_log = logging.getLogger(__name__)

ATTEMPTS = 8
"""About one minute."""
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_LONGEST_RETRY_AFTER_SECONDS = 3600.0
_LONGEST_CANARY_PAUSE_SECONDS = 5.0
"""A program that starts waits for its canaries, whatever the service asks for."""
_WARN_AT_ATTEMPT = 3
_TIMEOUT = httpx2.Timeout(60.0, connect=10.0)

_TRANSIENT = frozenset({408, 429, 502, 503, 504})
_REFUSALS: dict[int, type[ClientError]] = {
    401: Unauthorized,
    403: Forbidden,
    409: DimensionMismatch,
    413: BodyTooLarge,
    422: IdempotencyConflict,
}

MODEL_NAME_LENGTH = 128
_UNENCODED = (
    "the address before it is not valid; in a user and password, / ? # and @ are written %2F %3F"
    " %23 and %40"
)
"""A special character that is not percent-encoded ends a password. Its rest becomes another part of
the address, which errors quote."""
_MODEL_NAME = re.compile(r"(?!(.*/)?\.\.?(/|$))[^\x00-\x20\x22\x27\\<>`\x7f-\xa0\ufffd]+")

Outcome = httpx2.Response | httpx2.RequestError
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service did with a batch.

    Attributes
    ----------
    stored : int
        Vectors that it stored.
    duplicates : int
        Vectors that it did not store, because the newest vector of their id is the same; with
        ``ingest.ids: once``, because their id was stored before.
    revisions : int
        How many of the stored vectors revise an earlier vector of their id. 0 if the service is
        of a release that does not count them.
    """

    stored: int
    duplicates: int
    revisions: int = 0


@dataclass(frozen=True, slots=True)
class CanaryAnswer:
    """How far canaries are from the first ones of the same texts, their reference.

    Attributes
    ----------
    is_reference : bool
        Whether they are the reference themselves. Then the distances are 0.
    median_distance, max_distance : float
        Of 1 - cosine over the texts, from 0 to 2.
    """

    is_reference: bool
    median_distance: float
    max_distance: float


class _Route:
    """The service, the model, and the number of attempts."""

    def __init__(
        self,
        url: str,
        model_name: str,
        token: str | None,
        verify: str | os.PathLike[str] | None,
        attempts: int,
    ) -> None:
        base = _parsed(url)
        # Without user and password, because the address is logged.
        self._url = str(base.copy_with(userinfo=b"")).rstrip("/")
        self._model_name = _checked(model_name)
        self._attempts = as_count("attempts", attempts)
        self._delivery: Delivery[Any] | None = None
        self._options: dict[str, Any] = {
            "headers": {} if token is None else {"Authorization": _bearer(token)},
            "auth": (base.username, base.password) if base.username and token is None else None,
            "verify": _trust(verify),
            "timeout": _TIMEOUT,
        }

    @property
    def trouble(self) -> ClientError | None:
        """Why the last attempt failed; None if it succeeded."""
        return None if self._delivery is None else self._delivery.trouble

    def _begin(self, rows: Rows, lost: Losses, key: str | None = None) -> Delivery[Answer]:
        body, headers = _encode(rows, self._model_name)
        url, headers = f"{self._url}/embeddings", headers | lost.headers
        self._delivery = delivery = Delivery(url, body, headers, self._attempts, _answer, key=key)
        return delivery

    def _begin_canary(self, texts: Sequence[str], vectors: object) -> Delivery[CanaryAnswer]:
        body, headers = _encode(canaries.rows(texts, vectors), self._model_name)
        url = f"{self._url}/canaries"
        self._delivery = delivery = Delivery(
            url,
            body,
            headers,
            self._attempts,
            _canary_answer,
            longest_pause=_LONGEST_CANARY_PAUSE_SECONDS,
        )
        return delivery


class Sender(_Route):
    """Sends batches of one model's vectors and waits for each answer; a context manager.

    Use it to load vectors in a script. A program that must not wait uses
    :class:`embedding_drift_client.Client`.

    Parameters
    ----------
    url : str
        Address of the service, without the path of an endpoint. It may contain the user and
        password of basic authentication.
    model_name : str
        Name of the model that made the vectors.
    token : str, optional
        Bearer token with the scope ``write``.
    verify : path, optional
        File of the certificates to trust instead of the system's.
    attempts : int
        How often a batch is sent before it is given up.
    sleep : callable
        Waits for a number of seconds between two attempts.

    Raises
    ------
    SettingsError
        If the address, the token, the file or the number of attempts is not usable.
    PayloadError
        If the model's name is not allowed.
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

    def send(
        self,
        vectors: ArrayLike,
        ids: Ids = None,
        metadata: Metadata = None,
        timestamps: Timestamps = None,
        *,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Send one batch, with the arguments of :meth:`embedding_drift_client.Client.add`.

        Parameters
        ----------
        idempotency_key : str, optional
            Marks the batch, so that the service stores it once even if another call sends it again.
            Default: a new one for every call.

        Returns
        -------
        Answer
            What the service did with the vectors.

        Raises
        ------
        PayloadError
            If a vector, id or metadata is not valid, or the service refuses the batch; no vector
            is stored then. ``problems`` names the invalid vectors.
        Unauthorized, Forbidden
            If the token is missing, wrong or not sufficient.
        Undelivered
            If the service cannot be reached, stays busy, or is another service.
        """
        given = read(vectors, ids, metadata, timestamps)
        if given.problems:
            raise refusal(given.problems)
        if len(given.rows) != 1:
            raise PayloadError("a batch needs at least one vector, and vectors of one dimension")
        return self.deliver(given.rows[0], key=idempotency_key)

    def deliver(self, rows: Rows, lost: Losses = NO_LOSSES, key: str | None = None) -> Answer:
        """Send rows, and send them again while the failure may be temporary.

        Parameters
        ----------
        rows : Rows
        lost : Losses
            Earlier losses to report, with every attempt.
        key : str, optional
            See :meth:`send`.

        Raises
        ------
        ClientError
            As :meth:`send` does.
        """
        return self._delivered(self._begin(rows, lost, key))

    def canary(self, encode: Encode, texts: Sequence[str] | None = None) -> CanaryAnswer:
        """Embed fixed texts, and have the service compare the vectors with earlier ones.

        Only the vectors are sent, not the texts. Between two attempts it waits for at most 5
        seconds, even if the service asks for more.

        Parameters
        ----------
        encode : callable
            Gets a list of n texts and returns n vectors, in any form that :meth:`send` accepts.
        texts : sequence of str, optional
            Texts of your own, at most 128; 32 shipped ones by default. Other texts begin with
            another reference.

        Returns
        -------
        CanaryAnswer
            How far the vectors have moved.

        Raises
        ------
        PayloadError
            If the texts or vectors are not valid, or the service refuses them.
        Unauthorized, Forbidden, Undelivered
            As :meth:`send` does.
        Exception
            What ``encode`` raises.
        """
        listed = canaries.checked(texts)
        return self._delivered(self._begin_canary(listed, encode(listed)))

    def _delivered(self, delivery: Delivery[T]) -> T:
        while (pause := delivery.judge(self._attempt(delivery))) is not None:
            self._sleep(pause)
        return delivery.answer

    def _attempt(self, delivery: Delivery[Any]) -> Outcome:
        try:
            return self._http.post(delivery.url, content=delivery.body, headers=delivery.headers)
        except httpx2.RequestError as error:
            return error


class AsyncSender(_Route):
    """Sends rows and canaries from an event loop; an asynchronous context manager.

    It takes the parameters of :class:`Sender`; ``sleep`` is a coroutine function. It has no
    ``send``: programs use :class:`embedding_drift_client.AsyncClient`.
    """

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

    async def deliver(self, rows: Rows, lost: Losses = NO_LOSSES) -> Answer:
        """Send rows as :meth:`Sender.deliver` does, with a key of their own."""
        return await self._delivered(self._begin(rows, lost))

    async def canary(
        self, encode: Encode | AsyncEncode, texts: Sequence[str] | None = None
    ) -> CanaryAnswer:
        """Embed and send canaries as :meth:`Sender.canary` does.

        ``encode`` runs in a thread, because it may take long; what it returns may be awaitable.
        """
        listed = canaries.checked(texts)
        vectors = await asyncio.to_thread(encode, listed)
        if inspect.isawaitable(vectors):
            vectors = await vectors
        return await self._delivered(self._begin_canary(listed, vectors))

    async def _delivered(self, delivery: Delivery[T]) -> T:
        while (pause := delivery.judge(await self._attempt(delivery))) is not None:
            await self._sleep(pause)
        return delivery.answer

    async def _attempt(self, delivery: Delivery[Any]) -> Outcome:
        try:
            return await self._http.post(
                delivery.url, content=delivery.body, headers=delivery.headers
            )
        except httpx2.RequestError as error:
            return error


class Delivery(Generic[T]):
    """One batch: its request, and what the outcome of each attempt means. It does no I/O.

    Parameters
    ----------
    read : callable
        Reads the answer from the decoded JSON of a success. Raises ValueError, TypeError or
        LookupError if it is of another service.
    longest_pause : float
        Most seconds between two attempts, even if the service asks for more.

    Attributes
    ----------
    url : str
    body : bytes
    headers : dict
        They include an ``Idempotency-Key``: the batch is stored once, however often it is sent.
    answer : T
        The service's answer, once the batch is delivered.
    trouble : ClientError or None
        Why the last attempt failed.
    """

    def __init__(
        self,
        url: str,
        body: bytes,
        headers: dict[str, str],
        attempts: int,
        read: Callable[[Any], T],
        jitter: Callable[[], float] = random.random,
        key: str | None = None,
        longest_pause: float = math.inf,
    ) -> None:
        self.url = url
        self.body = body
        self.headers = headers | {"Idempotency-Key": key or uuid.uuid4().hex}
        self.answer: T
        self.trouble: ClientError | None = None
        self._attempt = 0
        self._attempts = attempts
        self._read = read
        self._jitter = jitter
        self._longest_pause = longest_pause

    def judge(self, outcome: Outcome) -> float | None:
        """Return the seconds to wait before the next attempt; None if the batch is delivered.

        Raises
        ------
        ClientError
            If the batch must not be sent again.
        """
        self._attempt += 1
        self.trouble = None
        asked = 0.0
        if isinstance(outcome, httpx2.Response):
            if outcome.is_success:
                self.answer = self._told(outcome)
                return None
            self.trouble = _refusal(outcome, self.url)
            if outcome.status_code not in _TRANSIENT:
                raise self.trouble
            asked = _retry_after(outcome)
        else:
            self.trouble = Undelivered(f"{self.url}: {outcome or type(outcome).__name__}")
        if self._attempt >= self._attempts:
            raise Undelivered(f"given up after {self._attempts} attempts; {self.trouble}")
        if self._attempt == _WARN_AT_ATTEMPT:
            _log.warning("%s; retrying", self.trouble)
        return self._pause(asked)

    def _told(self, response: httpx2.Response) -> T:
        try:
            return self._read(json.loads(response.content))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise Undelivered(
                f"{self.url} answers {response.status_code}, but is another service: its answer"
                " does not say what became of the vectors"
            ) from error

    def _pause(self, asked: float) -> float:
        backoff = min(_FIRST_PAUSE_SECONDS * 2.0 ** (self._attempt - 1), _LONGEST_PAUSE_SECONDS)
        # Not sooner than asked, unless that is longer than a caller waits. The jitter keeps clients
        # from returning all at once.
        return min(max(backoff, asked) * (1 + self._jitter() / 2), self._longest_pause)


def _answer(told: Any) -> Answer:
    return Answer(
        _count(told["stored"]), _count(told["duplicates"]), _count(told.get("revisions", 0))
    )


def _canary_answer(told: Any) -> CanaryAnswer:
    is_reference = told["reference"]
    if not isinstance(is_reference, bool):
        raise TypeError(is_reference)
    return CanaryAnswer(is_reference, float(told["median_distance"]), float(told["max_distance"]))


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(value)
    return value


def _refusal(response: httpx2.Response, url: str) -> ClientError:
    status = response.status_code
    detail, problems = response.reason_phrase, []
    try:
        told = json.loads(response.content)
        problems = [_problem(error) for error in told.get("errors", ())]
        detail = str(told["detail"])
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        # Not the service's own answer: a proxy's page, for example.
        problems = []
    otherwise = PayloadError if 400 <= status < 500 else Undelivered
    refused = _REFUSALS.get(status, otherwise)
    return refused(f"{url} answers {status}: {detail}", problems)


def _problem(error: dict[str, Any]) -> Problem:
    index = error.get("index")
    if not isinstance(index, int | None):
        raise TypeError(index)
    return Problem(str(error["pointer"]), str(error["reason"]), index)


def _retry_after(response: httpx2.Response) -> float:
    """Read the header's seconds or date; 0 if it is absent or not valid."""
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
    # Headers are ASCII, or else each library encodes them in its own way.
    if not rows.ids and not rows.metadata and model_name.isascii():
        return vectors.tobytes(), {
            "Content-Type": "application/octet-stream",
            "X-Model-Name": model_name,
            "X-Dimension": str(vectors.shape[1]),
        }
    members = [
        b'"model_name":' + json.dumps(model_name).encode(),
        b'"embeddings":[%b]' % b",".join(b'"%b"' % base64.b64encode(v.tobytes()) for v in vectors),
    ]
    if rows.ids:
        members.append(b'"ids":' + json.dumps(rows.ids).encode())
    if rows.metadata:
        members.append(b'"metadata":[%b]' % b",".join(item or b"null" for item in rows.metadata))
    return b"{%b}" % b",".join(members), {"Content-Type": "application/json"}


def _parsed(url: str) -> httpx2.URL:
    shown = url.rpartition("@")[2]
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        if shown == url:
            raise SettingsError(f"{url}: {error}") from error
        # "from None": the library's message may quote a part of the password.
        raise SettingsError(f"{shown}: {_UNENCODED}") from None
    if b"@" in parsed.raw_path or "@" in parsed.fragment:
        raise SettingsError(f"{shown}: {_UNENCODED}")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise SettingsError(f"{shown}: must begin with http:// or https:// and name a host")
    if parsed.port is not None and not 0 < parsed.port < 65_536:
        raise SettingsError(f"{shown}: Invalid port: allowed are 1 to 65535")
    return parsed


def _checked(model_name: str) -> str:
    is_short = len(model_name) <= MODEL_NAME_LENGTH
    if is_short and model_name.isprintable() and _MODEL_NAME.fullmatch(model_name):
        return model_name
    raise PayloadError(
        f"model name: {model_name[:MODEL_NAME_LENGTH]!r} is not allowed; allowed are 1 to"
        f" {MODEL_NAME_LENGTH} printable characters of any alphabet, other than spaces, quotes, \\"
        " ` < and >, without the parts . and .. between slashes"
    )


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
        raise SettingsError(f"{verify}: is not a file of certificates: {error}") from error
