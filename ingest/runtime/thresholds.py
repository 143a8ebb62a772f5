"""Thresholds of the score, by the stage of the baseline and the window, and of the canaries.

The rules are rendered from them. Others, which are lower, say what may become a baseline.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

Stage = Literal["provisional", "daily", "weekly"]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""How much of the usual traffic a baseline has seen.

provisional : less than a day, so it does not know the hours of the day
daily : a day or more, so it knows the hours of the day
weekly : a week or more, so it knows the days of the week, too
"""


class Thresholds(NamedTuple):
    """Scores of a window above which there is drift.

    Attributes
    ----------
    sudden : float
        For every score of two minutes.
    lasting : float
        For the average of `LASTING_SECONDS`.
    rise : float
        For how much the average of `RISE_SECONDS` is above that of the same hours a week before.
    """

    sudden: float
    lasting: float
    rise: float = math.inf


LASTING_SECONDS = 3_600
RISE_SECONDS = 8 * 3_600
HELD_SECONDS = 93_600
"""Seconds for which a drift goes on while its window is not measured: a day, and some delay."""
DRAINED_SECONDS = 600
"""A drift goes on, too, if it was last seen so many seconds before its window was not measured: the
vectors leave a window one by one, and few of them show less than many."""
KEPT_SECONDS = 900
"""Drift ends when it has not been seen for so long: the `keep_firing_for` of the rules."""
_FAST, _SLOW = Thresholds(5.0, 1.6), Thresholds(5.0, 3.0, rise=1.3)
_YOUNG_SLOW = Thresholds(40.0, 30.0, rise=30.0)
SCORE: dict[Stage, Mapping[str, Thresholds]] = {
    "provisional": {"fast": Thresholds(15.0, 10.0), "slow": _YOUNG_SLOW},
    "daily": {"fast": Thresholds(8.0, 3.5), "slow": _YOUNG_SLOW},
    "weekly": {"fast": _FAST, "slow": _SLOW},
}
"""By stage and window, for one model that is scraped once a minute. The rules add to them by the
number of models.

The average of an hour is that of four fast windows, so a lower one is as rare.

An hour that a provisional baseline has not seen looks unusual to it, and so does a day to a daily
one. The slow window holds enough vectors to see a day's small differences. Where these are not
known, only what changes nearly every vector counts, such as another encoder.

A small new topic may raise the slow window's score by 1 to 3 only, for as long as it lasts. Where
hours of the week differ more than the waves of a baseline follow, the score is as high every week,
without drift. So a rise over the week before counts.
"""
STEADY: dict[Stage, Mapping[str, Thresholds]] = {
    "provisional": {"fast": Thresholds(15.0, 10.0), "slow": Thresholds(15.0, 10.0)},
    "daily": {"fast": _FAST, "slow": Thresholds(15.0, 10.0)},
    "weekly": {"fast": _FAST, "slow": _SLOW},
}
"""Scores above which a span becomes no baseline, by stage and window.

They are at most those of `SCORE`. A page without drift costs somebody a look. A drift in a baseline
is never found.
"""
UNLIKE = 1.0
"""Average score of the slow window in a week above which another weekly baseline is suggested.

Without drift, scores are exponential and average 0.43 (1 / ln 10).
"""


def of_fleet(stage: Stage, models: int) -> dict[str, Thresholds]:
    """Return the thresholds of each window, as the rules compute them for so many models."""
    decades = math.log10(max(models, 1))
    # An average of several windows needs a quarter of what a single window needs.
    lasting = {"fast": decades / 4, "slow": decades}
    return {
        window: Thresholds(
            each.sudden + decades, each.lasting + lasting[window], each.rise + decades / 4
        )
        for window, each in SCORE[stage].items()
    }


CANARY = {
    ("median", "warning"): 5e-5,
    ("max", "warning"): 5e-4,
    ("median", "critical"): 2e-3,
}
"""Distances of canaries (1 - cosine) above which an alert fires, by aggregate and severity.

Measured with 90 texts. The median of a warning is 6 times as large as that of any text in bfloat16,
and a sixth of that of any text with int8 weights. The maximum is 60 times as large as that of any
text in bfloat16, because awkward texts may round worse, and a fifth of that of any text without
special tokens, the weakest change that was tried of what an encoder reads. The critical median lies
between int8 weights (5e-4 at most), which cause no drift alert, and no special tokens (5e-3 at
least).
"""
