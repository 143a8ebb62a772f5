"""Errors that the client raises or logs.

::

    ClientError
    ├── SettingsError (ValueError)      a parameter of the client is not usable
    ├── PayloadError (ValueError)       the vectors, ids or metadata are not valid
    │   ├── NonFinite                   a component is NaN, infinite or too large for float32
    │   ├── DimensionMismatch           the model has vectors of another dimension
    │   ├── BodyTooLarge                the service accepts smaller requests only
    │   └── IdempotencyConflict         the service has another request under the same key
    ├── Unauthorized (PermissionError)  the token is missing or wrong
    ├── Forbidden (PermissionError)     the token does not allow to write to this model
    ├── QueueFull (RuntimeError)        the queue has no room, or the client is closed
    └── Undelivered (ConnectionError)   the service could not be reached

Each error is also a built-in exception, so ``except ConnectionError`` works too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NOT_FINITE = "is NaN, infinite or too large for float32; components must be finite"
LISTED = 100
"""An error lists this many problems at most."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One invalid place in the input.

    Attributes
    ----------
    pointer : str
        JSON pointer to the place, such as ``/embeddings/3/17`` or ``/ids/2``.
    reason : str
        What is wrong, and what is allowed.
    index : int or None
        Index of the vector within its batch, if the problem belongs to one vector.
    """

    pointer: str
    reason: str
    index: int | None = None

    def __str__(self) -> str:
        return f"{self.pointer}: {self.reason}" if self.pointer else self.reason


class ClientError(Exception):
    """Base class of all errors of the client.

    Attributes
    ----------
    problems : tuple of Problem
        The invalid places, if they are known.
    """

    def __init__(self, detail: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(detail)
        self.problems = tuple(problems)


class SettingsError(ClientError, ValueError):
    """A parameter of the client is not usable."""


class PayloadError(ClientError, ValueError):
    """The vectors, ids or metadata are not valid. Sending them again does not help."""


class NonFinite(PayloadError):
    """A component is NaN, infinite or too large for float32."""


class DimensionMismatch(PayloadError):
    """The model has vectors of another dimension."""


class BodyTooLarge(PayloadError):
    """The request has more bytes or vectors than the service accepts."""


class IdempotencyConflict(PayloadError):
    """The service has another request under the same idempotency key."""


class Unauthorized(ClientError, PermissionError):
    """The token is missing or wrong."""


class Forbidden(ClientError, PermissionError):
    """The token does not allow to write to this model."""


class QueueFull(ClientError, RuntimeError):
    """The queue has no room for more vectors, or the client is closed."""


class Undelivered(ClientError, ConnectionError):
    """The service could not be reached, stayed busy, or is another service.

    If the last answer was lost, the service may have stored the vectors.
    """


def refusal(problems: Sequence[Problem]) -> PayloadError:
    """Return the error that lists these problems.

    Parameters
    ----------
    problems : sequence of Problem
        At least one.
    """
    more = f"; {len(problems) - 1} more" if len(problems) > 1 else ""
    is_not_finite = any(problem.reason == NOT_FINITE for problem in problems)
    kind = NonFinite if is_not_finite else PayloadError
    return kind(f"{problems[0]}{more}", problems[:LISTED])
