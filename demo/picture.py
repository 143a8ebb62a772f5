"""Draw the picture of an incident from the data in Prometheus."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from demo import incident
from demo.stack import Prometheus

FAST, SLOW, TOPIC = "#1f5fa8", "#7fb2e5", "#8a8f98"
WARNING, CRITICAL = "#e8a33d", "#c8452f"

_SCORE_SHOWN = 20
"""Upper end of the score axis. Scores rise far above it; the thresholds are below."""

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa0a6",
    "axes.labelcolor": "#3c4043",
    "xtick.color": "#5f6368",
    "ytick.color": "#5f6368",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#eceff1",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def draw(prometheus: Prometheus, model_name: str, began: float, shifted: float, file: Path) -> None:
    """Draw score, magnitude, thresholds and alerts, and the share of the new topic.

    Parameters
    ----------
    prometheus : Prometheus
        Where the incident is recorded, up to now.
    model_name : str
    began, shifted : float
        Seconds since the epoch of the recording's start and of the shift's.
    file : Path
        PNG file to write.
    """
    model = f'model_name="{model_name}"'
    recording = Recording(prometheus, began, time.time(), shifted)
    mpl.use("agg")
    with plt.rc_context(_STYLE):
        figure, (topic, score, magnitude) = plt.subplots(
            3, sharex=True, figsize=(9, 6.6), height_ratios=[1, 3, 2], layout="constrained"
        )
        end = incident.GROWTH_SECONDS
        topic.fill_between([0, end], [0, 100 * incident.FINAL_SHARE], color=TOPIC, alpha=0.5, lw=0)
        topic.set_ylabel(f"{incident.NEW_SECTION} %")
        topic.set_title(
            f"{model_name}: a topic that the baseline has not seen grows from 0 to "
            f"{incident.FINAL_SHARE:.0%}",
            loc="left",
            fontweight="bold",
        )
        _draw_panel(score, recording, "score", "score", model)
        _draw_panel(magnitude, recording, "magnitude", "magnitude", model)
        _draw_alerts((topic, score, magnitude), recording, model)
        score.set_ylim(top=_SCORE_SHOWN)
        for axes in (topic, score, magnitude):
            axes.axvline(0, color="#3c4043", lw=1, ls=(0, (2, 2)))
            axes.set_ylim(bottom=0)
        magnitude.set_xlabel("seconds since the first vector of the new topic")
        magnitude.set_xlim(-incident.QUIET_SECONDS + 10, end - 1)
        figure.savefig(file, dpi=160)
        plt.close(figure)


class Recording:
    """Data of Prometheus between two times, relative to the start of the new topic."""

    def __init__(self, prometheus: Prometheus, began: float, ended: float, shifted: float) -> None:
        self._prometheus = prometheus
        self._range = began, ended
        self._shifted = shifted

    def series(self, expression: str) -> tuple[list[float], list[float]]:
        """Return the times and values of the first series of an expression."""
        matrix = self._prometheus.query_range(expression, *self._range)
        points = matrix[0]["values"] if matrix else []
        return [t - self._shifted for t, _ in points], [float(value) for _, value in points]


_THRESHOLDS = {
    "score": (("sudden", "for 2 min", WARNING), ("lasting", "for an hour", WARNING)),
    "magnitude": (("warning", "warning", WARNING), ("critical", "critical", CRITICAL)),
}


def _draw_panel(axes: Axes, recording: Recording, metric: str, label: str, model: str) -> None:
    for name, color in (("slow", SLOW), ("fast", FAST)):
        series = f'model_window:embedding_drift_{metric}:max{{{model},window="{name}"}}'
        axes.plot(*recording.series(series), color=color, lw=2, label=f"{name} window")
    for name, text, color in _THRESHOLDS[metric]:
        level, which = ("model_window", ',window="fast"') if metric == "score" else ("model", "")
        times, values = recording.series(
            f"{level}:embedding_drift_{metric}_{name}:threshold{{{model}{which}}}"
        )
        axes.plot(times, values, color=color, lw=1.2, ls="--")
        if values:
            axes.annotate(
                text, (1, values[-1]), xycoords=("axes fraction", "data"), color=color,
                va="bottom", ha="right", fontsize=8.5,
            )  # fmt: skip
    axes.set_ylabel(label)
    if metric == "score":
        axes.legend(loc="upper left")


def _draw_alerts(panels: Sequence[Axes], recording: Recording, model: str) -> None:
    for severity, color in (("warning", WARNING), ("critical", CRITICAL)):
        firing = f'max(ALERTS{{{model},alertstate="firing",severity="{severity}"}})'
        times, _ = recording.series(firing)
        if not times:
            continue
        for axes in panels:
            axes.axvspan(times[0], times[-1], color=color, alpha=0.14, lw=0)
            axes.axvline(times[0], color=color, lw=1.2)
        panels[0].annotate(
            f"{severity} after {times[0]:.0f} s", (times[0], 0.97),
            xycoords=("data", "axes fraction"), xytext=(5, 0), textcoords="offset points",
            color=color, va="top", fontweight="bold",
        )  # fmt: skip
