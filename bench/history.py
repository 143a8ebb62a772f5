"""Histories without an event: false anomalies, trends and steps, and the cost.

There is no peer. The limit is what the thresholds of the rules promise.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import exporter  # noqa: F401  (one BLAS thread, before numpy)

# isort: split
import numpy as np
from numpy.typing import NDArray

from bench.table import show
from exporter.monitor import forecast
from exporter.stats.decomposition import DAY, WEEK

Hours = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int], Hours]

NOW = 1_700_000_000.0
DAYS = (5, 7, 14, 22, 34)


def white(random: np.random.Generator, hours: int) -> Hours:
    """Draw independent values."""
    return random.normal(size=hours)


def heavy(random: np.random.Generator, hours: int) -> Hours:
    """Draw independent values with outliers: Student's t of 3 degrees of freedom."""
    return random.standard_t(3, size=hours)


def persistent(random: np.random.Generator, hours: int) -> Hours:
    """Draw an autoregression of 0.9 per hour, plus white noise of twice its innovation."""
    values = random.normal(size=hours)
    for at in range(1, hours):
        values[at] += 0.9 * values[at - 1]
    return values + 2 * random.normal(size=hours)


def season(phase: int, hours: int, weekly: bool) -> Hours:
    """Return a daily wave and, if ``weekly``, lower weekends."""
    at = np.arange(phase, phase + hours)
    wave: Hours = 3 * np.sin(2 * np.pi * at / DAY)
    return wave - 3 * weekly * (at % WEEK >= 5 * DAY)


def measure(noise: Noise, days: int, trials: int) -> tuple[str, ...]:
    """Evaluate many histories without an event."""
    random = np.random.default_rng(0)
    hours = days * DAY
    times = NOW - forecast.HOUR_SECONDS * (np.arange(hours, dtype=np.float64)[::-1] + 0.5)
    judged = []
    start = time.perf_counter()
    for _ in range(trials):
        phase = int(random.integers(WEEK))
        values = noise(random, hours) + season(phase, hours, weekly=days >= 22)
        judged.append(forecast.judge(times, 0.5 + 0.01 * values, NOW))
    seconds = (time.perf_counter() - start) / trials
    anomalies = np.array([abs(h.anomaly) for h in judged if h.anomaly is not None])
    trends = np.array([h.trend_score for h in judged if h.trend_score is not None])
    return (
        str(days),
        noise.__name__,
        judged[0].state,
        f"{np.mean(anomalies > 3):.1%}",
        f"{np.mean(anomalies > 5):.1%}",
        "-" if not len(trends) else f"{np.mean(trends > 2):.1%}",
        "-" if not len(trends) else f"{np.mean(trends > 4):.1%}",
        f"{np.mean([h.changed_at is not None for h in judged]):.1%}",
        f"{seconds * 1e3:.0f}",
    )


def main(quick: bool) -> None:
    """Print one line per length and kind of noise."""
    trials = 20 if quick else 400
    head = ("days", "noise", "state", "|anomaly| > 3", "> 5", "trend > 2", "> 4", "step", "ms")
    rows = [measure(n, days, trials) for days in DAYS for n in (white, heavy, persistent)]
    show(f"Histories without an event, {trials} each", head, rows)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
