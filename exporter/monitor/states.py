"""The states of windows and of histories.

This module imports nothing, so that whoever only shows reports need not import what measures.
"""

from __future__ import annotations

from typing import Literal, get_args

State = Literal[
    "ok",
    "not_followed",
    "no_baseline",
    "too_few_vectors",
    "stale",
    "dimension_changed",
    "baseline_too_small",
    "baseline_constant",
]
STATES: tuple[State, ...] = get_args(State)
"""Whether drift of a window can be measured, or why not."""

UNMEASURED: frozenset[str] = frozenset({"too_few_vectors", "not_followed", "dimension_changed"})
"""While a window without a score is in one of these, nobody knows whether its drift lasts. So it
goes on, as in the rules."""

ForecastState = Literal["too_short", "gaps", "daily", "weekly"]
FORECAST_STATES: tuple[ForecastState, ...] = get_args(ForecastState)
"""Which seasons a history is long enough for, or why it is for none."""

SHARES_WINDOW = "slow"
"""The window whose shares of slices are exported: it has the most vectors."""
