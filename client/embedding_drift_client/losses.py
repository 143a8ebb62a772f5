"""Lost vectors: how many are to be reported, and a log of the reasons.

The log has each reason once, and the totals at the end.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

from embedding_drift_client.errors import ClientError
from embedding_drift_client.values import kind, shown

_log = logging.getLogger(__name__)

_MOST_REASONS = 100
_EXAMPLE = re.compile(r"""'[^']*'|"[^"]*"|\d+""")
"""Numbers and quoted values: what differs between two losses for the same reason."""


@dataclass(frozen=True, slots=True)
class Losses:
    """Numbers of vectors that the service never got or did not store.

    Attributes
    ----------
    dropped : int
        Vectors for which the queue had no room.
    failed : int
        Vectors that are not valid, that the service refused, or that did not reach it.
    """

    dropped: int = 0
    failed: int = 0

    def __sub__(self, earlier: Losses) -> Losses:
        return Losses(self.dropped - earlier.dropped, self.failed - earlier.failed)

    @property
    def headers(self) -> dict[str, str]:
        """The header that reports the losses to the service; empty if there are none."""
        if self == NO_LOSSES:
            return {}
        return {"X-Client-Lost": f"dropped={self.dropped}, failed={self.failed}"}


NO_LOSSES = Losses()


class LossLog:
    """Logs the first loss for each reason.

    Two losses have the same reason if their messages differ only in numbers and quoted values.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()

    def tell(self, what: str, why: Exception | str) -> None:
        """Log a loss as a warning, unless one for the same reason was logged before.

        Parameters
        ----------
        what : str
            What happened to the vectors.
        why : Exception or str
            An error that is not a :class:`ClientError` is logged with its traceback.
        """
        text = why if isinstance(why, str) else shown(why)
        reason = f"{what} {kind(why)} {_EXAMPLE.sub('', text)}"
        if reason in self._known or len(self._known) > _MOST_REASONS:
            return
        self._known.add(reason)
        if len(self._known) > _MOST_REASONS:
            _log.warning(
                "%d reasons for losses were logged; losses for other reasons are counted",
                _MOST_REASONS,
            )
            return
        unexpected = None if isinstance(why, str | ClientError) else why
        _log.warning(
            "%s: %s (logged once; later ones are counted)", what, text, exc_info=unexpected
        )

    def total(self, *, added: int, sent: int, duplicates: int, dropped: int, failed: int) -> None:
        """Log the counts of a closed client; as a warning if vectors were lost."""
        _log.log(
            logging.WARNING if dropped or failed else logging.INFO,
            "closed; vectors: %d added, %d sent, %d duplicates, %d dropped, %d failed",
            added,
            sent,
            duplicates,
            dropped,
            failed,
        )
