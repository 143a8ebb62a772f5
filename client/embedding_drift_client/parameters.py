"""Checks of the numbers among the parameters of a client.

A number of another kind must be refused here: later, it would fail in the midst of counting.
"""

from __future__ import annotations

import operator
from numbers import Real
from typing import Any

from embedding_drift_client.errors import SettingsError

_LONGEST_SECONDS = 3600


def as_count(name: str, value: Any) -> int:
    """Return a whole number of at least 1.

    Raises
    ------
    SettingsError
        If the value is smaller, a float or a truth value, or no number.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise SettingsError(f"{name} ({value!r}) must be a whole number of at least 1")
    return number


def as_seconds(name: str, value: Any) -> float:
    """Return a time from 0 seconds to an hour.

    Raises
    ------
    SettingsError
        If the value is out of this range, a truth value, or no number.
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= _LONGEST_SECONDS:
        raise SettingsError(f"{name} ({value!r}) must be 0 to {_LONGEST_SECONDS} seconds")
    return float(value)
