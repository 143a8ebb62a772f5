"""Charts as SVG: coordinates of lines, drawn on the server, so that no page needs a script."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

Samples = Sequence[tuple[float, float | None]]
"""Times in seconds since the epoch, oldest first, and values; None where there is a gap."""

_SCORES = (0, 1, 3, 10, 30, 100, 300, 1_000)
_RATIOS = (0.1, 0.25, 0.5, 1.0)
_STEPS = (600, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400, 172_800, 432_000)
"""Seconds between ticks of the time axis."""
_MOST_TICKS = 7


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark at an axis: its place in user units, and its label."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Frame:
    """The area of a chart, and the times and values that its sides stand for.

    Attributes
    ----------
    since, until : float
        Seconds since the epoch at the left and the right side.
    top : float
        Value at the upper side; 0 is at the lower one.
    width, height : float
        User units.
    is_score : bool
        Whether values are scores. They span several powers of ten, so their axis is logarithmic.
    """

    since: float
    until: float
    top: float
    width: float
    height: float
    is_score: bool

    def x(self, moment: float) -> float:
        """Return the place of a time."""
        share = (moment - self.since) / (self.until - self.since)
        return round(min(max(share, 0.0), 1.0) * self.width, 1)

    def y(self, value: float) -> float:
        """Return the place of a value; a value beyond the area is at its side."""
        scale = math.log1p if self.is_score else float
        share = scale(max(value, 0.0)) / scale(self.top)
        return round((1 - min(share, 1.0)) * self.height, 1)

    def path(self, samples: Samples, gap: float) -> str:
        """Return the data of an SVG path.

        Parameters
        ----------
        samples : sequence of (float, float or None)
        gap : float
            Seconds without a value after which the line is broken.
        """
        parts: list[str] = []
        before = -math.inf
        for moment, value in samples:
            if value is None:
                continue
            is_apart = moment - before > gap
            # A point of its own is drawn by a line of no length, with round ends.
            parts.append(f"{'M' if is_apart else 'L'}{self.x(moment)} {self.y(value)}")
            if is_apart:
                parts.append("h0")
            before = moment
        return "".join(parts)

    def values(self) -> list[Tick]:
        """Return the ticks of the values, at least 12 units apart."""
        if self.is_score:
            return [Tick(self.y(value), str(value)) for value in _SCORES if value <= self.top]
        return [Tick(self.y(share * self.top), f"{share * self.top:.0%}") for share in (0, 0.5, 1)]

    def times(self) -> list[Tick]:
        """Return the ticks of the time, in UTC."""
        span = self.until - self.since
        step = next((each for each in _STEPS if span / each <= _MOST_TICKS), _STEPS[-1])
        shown = "%H:%M" if step < 86_400 else "%b %d"
        first = math.ceil(self.since / step)
        return [
            Tick(self.x(at * step), datetime.fromtimestamp(at * step, UTC).strftime(shown))
            for at in range(first, math.floor(self.until / step) + 1)
        ]


def frame(
    values: Iterable[float | None],
    since: float,
    until: float,
    is_score: bool,
    width: float = 720,
    height: float = 160,
) -> Frame:
    """Return an area that has room for all these values."""
    highest = max((value for value in values if value is not None), default=0.0)
    steps = _SCORES[3:] if is_score else _RATIOS
    top = next((float(step) for step in steps if step >= highest), highest)
    return Frame(since, until, top, width, height, is_score)
