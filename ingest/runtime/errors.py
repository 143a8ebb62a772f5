"""Every error this project raises on purpose.

::

    MonitorError
    ├── SettingsError (ValueError)        a configuration that cannot be used
    ├── PayloadError (ValueError)         a request body or parameter that cannot be used
    │   ├── BodyTooLarge                  more bytes or vectors than allowed
    │   ├── UnsupportedMediaType          a body format or encoding nobody here reads
    │   ├── NonFinite                     vectors with NaN, infinities or beyond float32
    │   ├── DimensionMismatch             vectors of another dimension than the model's
    │   └── IdempotencyConflict           a key that came before with another body
    ├── Unauthorized (PermissionError)    credentials are missing or wrong
    ├── Forbidden (PermissionError)       the credentials do not reach so far
    ├── NotFound (LookupError)            a model, baseline or vector that is not there
    ├── TooManyModels (RuntimeError)      the cap on models is reached
    ├── QueueFull (RuntimeError)          more requests or passwords wait than may
    ├── SlowClient (TimeoutError)         a request that does not arrive in time
    ├── StoreUnavailable (ConnectionError)  PostgreSQL does not answer or refuses work
    ├── ClusterFailed (ConnectionError)   the Dask cluster is away, lost work or its scratch
    └── SourceUnavailable (ConnectionError) a watched table cannot be read now

Each derives from the built-in a caller would catch anyway. ``status`` is the HTTP status
the web layer answers with; ``problems`` names single places in the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one place of the input.

    Attributes
    ----------
    pointer : str
        JSON pointer into the request body (``/embeddings/3/17``; empty for the whole of it), or
        the name of a header, query parameter or setting.
    reason : str
        What is wrong there and what is allowed.
    index : int or None
        Index of the vector within its batch, when the place belongs to one vector.
    """

    pointer: str
    reason: str
    index: int | None = None


class MonitorError(Exception):
    """Base of all errors raised on purpose."""

    status = 500
    title = "Internal error"

    def __init__(self, detail: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.problems = tuple(problems)


class SettingsError(MonitorError, ValueError):
    """The configuration cannot be used; ``problems`` lists every key at fault."""

    def __str__(self) -> str:
        return "\n  ".join([self.detail, *(f"{p.pointer}: {p.reason}" for p in self.problems)])


class PayloadError(MonitorError, ValueError):
    """The request cannot be used as sent; sending it again will not help."""

    status = 400
    title = "Invalid request"


class BodyTooLarge(PayloadError):
    """The request carries more bytes or vectors than one request may."""

    status = 413
    title = "Request too large"


class UnsupportedMediaType(PayloadError):
    """The content type or encoding is not one of those this endpoint reads."""

    status = 415
    title = "Unsupported media type"


class NonFinite(PayloadError):
    """Vectors have components that are NaN, infinite or too large for float32."""

    title = "Vectors not finite"


class DimensionMismatch(PayloadError):
    """The vectors have another dimension than those stored for the model."""

    status = 409
    title = "Dimension differs from the model's"


class IdempotencyConflict(PayloadError):
    """The idempotency key was used before with another body."""

    status = 422
    title = "Idempotency key reused"


class Unauthorized(MonitorError, PermissionError):
    """The request has no credentials, or wrong ones; the answer does not say which."""

    status = 401
    title = "Unauthorized"


class Forbidden(MonitorError, PermissionError):
    """The credentials are right and lack a scope."""

    status = 403
    title = "Forbidden"


class NotFound(MonitorError, LookupError):
    """The thing asked for does not exist."""

    status = 404
    title = "Not found"


class TooManyModels(MonitorError, RuntimeError):
    """One more model would exceed the cap on models."""

    status = 403
    title = "Too many models"


class QueueFull(MonitorError, RuntimeError):
    """The queue of requests or of passwords to check has no room for one more."""

    status = 429
    title = "Queue full"


class SlowClient(MonitorError, TimeoutError):
    """The request did not arrive in time."""

    status = 408
    title = "Request timeout"


class StoreUnavailable(MonitorError, ConnectionError):
    """PostgreSQL cannot be reached or refuses work; nothing was stored."""

    status = 503
    title = "Store unavailable"


class ClusterFailed(MonitorError, ConnectionError):
    """The Dask cluster cannot be reached, its workers died, or they cannot use the scratch."""


class SourceUnavailable(MonitorError, ConnectionError):
    """A watched table, or the server that has it, cannot be read now."""

    status = 503
    title = "Source unavailable"
