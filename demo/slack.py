"""A stand-in for the incoming webhook of Slack. It rejects what Slack would reject or cut."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

PATH = "/services/T000/B000/stand-in"

MAX_ATTACHMENTS = 100
MAX_ACTIONS = 5
MAX_TEXT = 40_000
"""Characters after which Slack cuts a message."""
SHOWN_TEXT = 4_000
"""Limit for the characters of an attachment, according to the documentation of Slack."""
MAX_TITLE = 1_024
MAX_BUTTON = 75


@dataclass(frozen=True, slots=True)
class Message:
    """One accepted request.

    Attributes
    ----------
    received : float
        Seconds since the epoch.
    body : dict
        The decoded JSON body.
    """

    received: float
    body: dict[str, Any]


def problem(content_type: str, body: bytes) -> str | None:
    """Return the error for a request that Slack would not show completely, or None.

    Errors of Slack use its own words (``invalid_payload``, ``no_text``, ``too_many_attachments``).
    What Slack would silently cut or drop is described in words.
    """
    if content_type.split(";")[0].strip() != "application/json":
        return f"invalid_payload: content type {content_type!r}"
    try:
        payload = json.loads(body)
    except ValueError as error:
        return f"invalid_payload: {error}"
    if not isinstance(payload, dict) or not isinstance(payload.get("attachments", []), list):
        return "invalid_payload: not an object with a list of attachments"
    attachments = payload.get("attachments", [])
    if not attachments and not payload.get("text"):
        return "no_text"
    if len(attachments) > MAX_ATTACHMENTS:
        return "too_many_attachments"
    if len(payload.get("text", "")) > MAX_TEXT:
        return "msg_too_long"
    return next(filter(None, map(_attachment_problem, attachments)), None)


def _attachment_problem(attachment: dict[str, Any]) -> str | None:
    if not attachment.get("fallback") or not attachment.get("text"):
        return "no_text: an attachment needs fallback and text"
    if len(attachment["text"]) > SHOWN_TEXT or len(attachment.get("title", "")) > MAX_TITLE:
        return "msg_too_long: an attachment's text or title"
    actions = attachment.get("actions", [])
    if len(actions) > MAX_ACTIONS:
        return f"too many actions: {len(actions)}"
    for action in actions:
        if action.get("type") != "button" or not 0 < len(action.get("text", "")) <= MAX_BUTTON:
            return f"invalid action: {action}"
    links = [action.get("url", "") for action in actions]
    links += [attachment["title_link"]] if "title_link" in attachment else []
    for link in links:
        url = urlsplit(link)
        if url.scheme not in {"http", "https"} or not url.netloc:
            return f"invalid URL: {link!r}"
    return None


@dataclass
class Slack:
    """The webhook. It listens on a free port of an address while the context is open.

    Examples
    --------
    >>> with Slack() as slack:
    ...     slack.refuse(429, times=1)
    ...     print(slack.url)
    ...     slack.wait(lambda message: "drift" in str(message.body), seconds=30)
    """

    address: str = "127.0.0.1"
    """Where it listens: by default, where only this machine reaches it."""
    messages: list[Message] = field(default_factory=list)
    """Accepted messages, in order."""
    refused: list[str] = field(default_factory=list)
    """Answers to the requests that were rejected."""

    def __enter__(self) -> Slack:
        self._news = threading.Condition()
        self._refusals: deque[int] = deque()
        self._server = ThreadingHTTPServer((self.address, 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """URL of the webhook."""
        return f"http://{self.address}:{self._server.server_port}{PATH}"

    def refuse(self, status: int, times: int) -> None:
        """Reject the next ``times`` requests with ``status``."""
        with self._news:
            self._refusals.extend([status] * times)

    def wait(self, wanted: Callable[[Message], bool], seconds: float) -> Message:
        """Wait for a message and return it.

        Raises
        ------
        TimeoutError
            If no such message arrives in time; the error lists the rejected requests.
        """
        with self._news:
            self._news.wait_for(lambda: any(map(wanted, self.messages)), seconds)
            for message in self.messages:
                if wanted(message):
                    return message
        raise TimeoutError(
            f"no such message in {seconds:g} s; {len(self.messages)} others arrived, "
            f"rejected: {self.refused}"
        )

    def answer(self, path: str, content_type: str, body: bytes) -> tuple[int, str]:
        """Check one request and return the status and text of the answer."""
        error = problem(content_type, body)
        with self._news:
            if path != PATH:
                status, text = 404, "no_team"
            elif self._refusals:
                status, text = self._refusals.popleft(), "refused_as_told"
            elif error is not None:
                status, text = 400, error
            else:
                status, text = 200, "ok"
                self.messages.append(Message(time.time(), json.loads(body)))
            if status != 200:
                self.refused.append(f"{status} {text}")
            self._news.notify_all()
        return status, text


def _handler(slack: Slack) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, text = slack.answer(self.path, self.headers.get("Content-Type", ""), body)
            self.send_response(status)
            if status == 429:
                self.send_header("Retry-After", "1")
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *arguments: object) -> None:
            """Log nothing, because the demo prints to the same terminal."""

    return Handler
