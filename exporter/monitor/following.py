"""Following: whether the windows of a model hold every vector that was acknowledged.

For each model, an acknowledged vector is in the windows, or too old for them, or replaced by newer
ones, or was left out by sampling, or a duplicate. The state ``ok`` means that this held at
most :attr:`Following.patience` ago.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal, get_args

Reason = Literal["behind", "vectors_unreadable", "baseline_unreadable"]
REASONS: tuple[Reason, ...] = get_args(Reason)
"""Why a model is not followed.

behind : the windows lack acknowledged vectors: the store does not answer, or a replica lags
vectors_unreadable : reading the new vectors fails
baseline_unreadable : the newest baseline cannot be read by this version
"""

_TOLERATED_FAILURES = 1
"""Failures in a row after which a model still counts as followed: one may be an accident."""

_RESOLUTION = 100
"""Of the polls since a model was followed, those are kept that are further apart than this part of
their time: it may last for days."""


@dataclass(frozen=True, slots=True)
class Following:
    """How a model is followed.

    Attributes
    ----------
    followed_at : float
        Time of the store, in seconds since the epoch. What was acknowledged before is followed.
    patience : float
        Seconds for which acknowledged vectors may be on their way into the windows.
    behind : int
        Acknowledged vectors that are not followed, as of the last poll.
    failing_since : float or None
        Time of the store of the first of the failures in a row; None after a success.
    reason : Reason or None
        Kind of the failure; None after a success.
    detail : str or None
        The failure in words.
    failures : int
        Failures in a row.
    """

    followed_at: float
    patience: float = math.inf
    behind: int = 0
    failing_since: float | None = None
    reason: Reason | None = None
    detail: str | None = None
    failures: int = 0

    def trouble(self, now: float) -> Reason | None:
        """Return why the model is not followed at this time of the store; None while it is."""
        if self.failures > _TOLERATED_FAILURES:
            return self.reason
        return "behind" if now - self.followed_at > self.patience else None


class Ledger:
    """Keeps the books of one model: what was acknowledged when, and what is followed by now.

    Attributes
    ----------
    following : Following
        As of the last poll; replaced as a whole.
    """

    def __init__(self, now: float) -> None:
        self.following = Following(now)
        self._acknowledged: deque[tuple[float, int]] = deque()
        self._followed_at = now
        self._failure: tuple[float, Reason, str] | None = None
        self._failures = 0

    def succeed(self, now: float, acknowledged: int, seen: int, patience: float) -> None:
        """Note a poll that followed the model.

        Parameters
        ----------
        now : float
            Time of the store.
        acknowledged : int
            Number of the newest vector that the primary had then.
        seen : int
            Number of the newest vector that the windows have seen.
        patience : float
            Seconds for which acknowledged vectors may be on their way into the windows.
        """
        self._failure, self._failures = None, 0
        self._note(now, acknowledged, seen, patience)

    def fail(
        self,
        now: float,
        acknowledged: int,
        seen: int,
        patience: float,
        reason: Reason,
        detail: str,
    ) -> None:
        """Note a poll that could not follow the model, and why, in words."""
        since = now if self._failure is None else self._failure[0]
        self._failure = since, reason, detail
        self._failures += 1
        self._note(now, acknowledged, seen, patience)

    def _note(self, now: float, acknowledged: int, seen: int, patience: float) -> None:
        polls = self._acknowledged
        if len(polls) > 1 and now - polls[-2][0] < (now - polls[0][0]) / _RESOLUTION:
            # Between two polls that are kept, the time of the earlier one counts.
            polls.pop()
        polls.append((now, acknowledged))
        while polls and polls[0][1] <= seen:
            # A baseline that cannot be read leaves nothing followed, though vectors are seen.
            moment, _ = polls.popleft()
            if self._failure is None:
                self._followed_at = moment
        since, reason, detail = self._failure or (None, None, None)
        self.following = Following(
            self._followed_at,
            patience,
            max(acknowledged - seen, 0),
            since,
            reason,
            detail,
            self._failures,
        )
