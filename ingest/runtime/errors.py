"""The errors that this project raises on purpose.

::

    MonitorError
    ├── SettingsError (ValueError)        the configuration is invalid
    │   └── NotReloaded                   it, or a change of it, was rejected while the service runs
    ├── PayloadError (ValueError)         the body or a parameter is invalid
    │   ├── BodyTooLarge                  more bytes or vectors than allowed
    │   ├── UnsupportedMediaType          a content type or encoding that is not supported
    │   ├── NonFinite                     vectors with NaN, infinities or values beyond float32
    │   ├── DimensionMismatch             the vectors have another dimension than the model
    │   └── IdempotencyConflict           a key that was used before with another body
    ├── Unauthorized (PermissionError)    credentials are missing or wrong
    ├── Forbidden (PermissionError)       the credentials lack a scope
    ├── NotFound (LookupError)            a model, baseline or vector does not exist
    ├── TooManyModels (RuntimeError)      the limit on models is reached
    ├── QueueFull (RuntimeError)          too many requests or passwords wait
    ├── SlowClient (TimeoutError)         a request did not arrive in time
    ├── LostClient (ConnectionError)      the client hung up before the end of its request
    ├── NotChecked (RuntimeError)         no exporter has reported on a model yet
    ├── FitFailed (RuntimeError)          the process that fitted a baseline ended too early
    ├── FitStopped (RuntimeError)         it was ended, because the service stops
    ├── StoreUnavailable (ConnectionError)  PostgreSQL does not answer or refuses work
    │   ├── StoreLost                     the connection is gone, or there is none: all work stops
    │   │   └── StoreRefused              it refuses the connection until somebody changes something
    │   └── AnswerLate                    reading from it, and computing, took too long
    ├── ClusterFailed (ConnectionError)   the Dask cluster or its scratch storage failed
    └── SourceUnavailable (ConnectionError) a watched table cannot be read now

Each derives from the built-in exception for its kind of failure. ``status`` is the status of the
HTTP answer, and ``problems`` names single places in the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One place in the input that is wrong, and why.

    Attributes
    ----------
    pointer : str
        JSON pointer into the request body (``/embeddings/3/17``; empty for the whole body), or the
        name of a header, query parameter or setting.
    reason : str
        What is wrong, and what is allowed.
    index : int or None
        Index of the vector within its batch, if the place belongs to one vector.
    """

    pointer: str
    reason: str
    index: int | None = None


class MonitorError(Exception):
    """Base class of all errors that are raised on purpose."""

    status = 500
    title = "Internal error"

    def __init__(self, detail: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.problems = tuple(problems)


class SettingsError(MonitorError, ValueError):
    """The configuration is invalid. ``problems`` lists every wrong key."""

    def __str__(self) -> str:
        return "\n  ".join([self.detail, *(f"{p.pointer}: {p.reason}" for p in self.problems)])


class NotReloaded(SettingsError):
    """A reload was rejected: the configuration of before stays in force."""

    title = "Configuration not reloaded"


class PayloadError(MonitorError, ValueError):
    """The request is invalid. Sending it again will not help."""

    status = 400
    title = "Invalid request"


class BodyTooLarge(PayloadError):
    """The request has more bytes or vectors than allowed."""

    status = 413
    title = "Request too large"


class UnsupportedMediaType(PayloadError):
    """The endpoint does not support the content type or encoding."""

    status = 415
    title = "Unsupported media type"


class NonFinite(PayloadError):
    """Components are NaN, infinite or too large for float32."""

    title = "Vectors not finite"


class DimensionMismatch(PayloadError):
    """The vectors have another dimension than those of the model."""

    status = 409
    title = "Dimension differs from the model's"


class IdempotencyConflict(PayloadError):
    """The idempotency key was used before with another body."""

    status = 422
    title = "Idempotency key reused"


class Unauthorized(MonitorError, PermissionError):
    """The request has no credentials or wrong ones. The answer does not say which."""

    status = 401
    title = "Unauthorized"


class Forbidden(MonitorError, PermissionError):
    """The credentials are valid but lack a scope."""

    status = 403
    title = "Forbidden"


class NotFound(MonitorError, LookupError):
    """A model, baseline or vector does not exist."""

    status = 404
    title = "Not found"


class TooManyModels(MonitorError, RuntimeError):
    """The limit on models is reached."""

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


class LostClient(MonitorError, ConnectionError):
    """The client hung up before the end of its request. Nobody reads the answer."""

    status = 408
    title = "Request incomplete"


class NotChecked(MonitorError, RuntimeError):
    """No exporter has reported on a model yet. It will at its next check."""

    status = 503
    title = "Not checked yet"


class FitFailed(MonitorError, RuntimeError):
    """The process that fitted a baseline ended before it was done."""

    title = "Baseline not fitted"


class FitStopped(MonitorError, RuntimeError):
    """The process that fitted a baseline was ended, because the service stops."""

    title = "Baseline not fitted"


class StoreUnavailable(MonitorError, ConnectionError):
    """PostgreSQL cannot be reached or refuses work.

    If it stopped answering during a commit, the vectors may be stored nevertheless.
    """

    status = 503
    title = "Store unavailable"


class StoreLost(StoreUnavailable):
    """There is no connection to PostgreSQL any more, or it stores nothing.

    Whatever comes next would fail, too. Any other StoreUnavailable is about one statement: it was
    cancelled, waited for a lock too long, needed too much memory, or met a block that is damaged.
    """


class StoreRefused(StoreLost):
    """PostgreSQL refuses the connection, and waiting does not help.

    The password is wrong, the role or the database does not exist, or TLS is refused.
    """


class AnswerLate(StoreUnavailable):
    """What reads from PostgreSQL and computes took too long, whichever of the two it was."""

    title = "Answer took too long"


class ClusterFailed(MonitorError, ConnectionError):
    """The Dask cluster cannot be reached, its workers died, or their scratch storage failed."""


class SourceUnavailable(MonitorError, ConnectionError):
    """A watched table or its server cannot be read now."""

    status = 503
    title = "Source unavailable"
