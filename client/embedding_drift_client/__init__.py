"""Send embeddings to the Embedding Drift Monitor.

:class:`Client` (or :class:`AsyncClient` on an event loop) sends vectors in the background. Its
``add`` never waits and never raises; lost vectors are counted, logged and reported to the service.
:class:`Sender` sends one batch and waits for the answer.

Their ``canary`` embeds fixed texts of ``canaries.py``, which shows whether the encoder changed.

Read ``client.py`` first. It reads arguments with ``rows.py`` and ``values.py``, keeps them in
``queue.py``, sends them with ``delivery.py``, and logs and reports losses with ``losses.py``.
``parameters.py`` checks the numbers that these are created with.
"""

from embedding_drift_client.client import AsyncClient, Client
from embedding_drift_client.delivery import Answer, CanaryAnswer, Sender
from embedding_drift_client.errors import (
    BodyTooLarge,
    ClientError,
    DimensionMismatch,
    Forbidden,
    IdempotencyConflict,
    NonFinite,
    PayloadError,
    Problem,
    QueueFull,
    SettingsError,
    Unauthorized,
    Undelivered,
)

__all__ = [
    "Answer",
    "AsyncClient",
    "BodyTooLarge",
    "CanaryAnswer",
    "Client",
    "ClientError",
    "DimensionMismatch",
    "Forbidden",
    "IdempotencyConflict",
    "NonFinite",
    "PayloadError",
    "Problem",
    "QueueFull",
    "Sender",
    "SettingsError",
    "Unauthorized",
    "Undelivered",
]
