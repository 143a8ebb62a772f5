"""Thresholds of the score, by the stage of the baseline.

The rules are rendered from them. The exporter lets no baseline mature over what they call drift.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

Stage = Literal["provisional", "daily", "weekly"]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""How much of the usual traffic a baseline has seen.

provisional : less than a day, so it does not know the hours of the day
daily : a day or more, so it knows the hours of the day
weekly : a week or more, so it knows the days of the week, too
"""


class Thresholds(NamedTuple):
    """Scores above which there is drift.

    Attributes
    ----------
    sudden : float
        For `SUDDEN_SECONDS`.
    lasting : float
        For `LASTING_SECONDS`.
    """

    sudden: float
    lasting: float


SUDDEN_SECONDS = 120
LASTING_SECONDS = 1_800
SCORE: dict[Stage, Thresholds] = {
    "provisional": Thresholds(15.0, 10.0),
    "daily": Thresholds(5.0, 3.0),
    "weekly": Thresholds(5.0, 3.0),
}
"""For one model that is scraped once a minute. The rules add log10 of the number of models.

To a provisional baseline every hour that it has not seen is news. Only what changes nearly every
vector, such as another encoder, counts.
"""
