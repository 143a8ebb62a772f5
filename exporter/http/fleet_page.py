"""The page of the fleet: all models, the worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote, urlencode

from exporter.http import charts, condition
from exporter.http.condition import CAUSES, WORDS, Condition, Reading, Word, judge
from exporter.http.rendering import TEMPLATES, as_score, heading, since
from exporter.monitor.report import ListedModel
from exporter.monitor.series import Series
from ingest.runtime.thresholds import of_fleet
from ingest.store.history import Point

PER_PAGE = 50
"""Models on one page of the fleet."""
DAY_STRETCH = 900
"""Seconds of each point of a day's line."""


class FleetQuery(NamedTuple):
    """What of the fleet is shown: a part of the name, a word, and the page, from 1."""

    q: str = ""
    state: Word | None = None
    page: int = 1


class Listed(NamedTuple):
    """A model of the fleet, judged."""

    model: ListedModel
    condition: Condition
    lasting: float


class Fleet(NamedTuple):
    """The models of one page, and how many there are of each word in all."""

    query: FleetQuery
    shown: Sequence[Listed]
    found: int
    counts: Counter[Word]


def fleet(
    models: Iterable[ListedModel],
    query: FleetQuery,
    averages: Mapping[Series, float] | None,
) -> Fleet:
    """Judge all models, and choose those of one page, the worst first.

    Parameters
    ----------
    models : iterable of ListedModel
    query : FleetQuery
    averages : mapping of Series to float, or None
        Average scores of the last hour; None if the store does not answer.
    """
    models = list(models)
    watched = sum(model.watched for model in models)
    judged = sorted(
        (_listed(model, watched, averages) for model in models),
        key=lambda each: (each.condition.severity, each.model.model_name),
    )
    found = [
        each
        for each in judged
        if query.q.lower() in each.model.model_name.lower()
        and query.state in (None, each.condition.word)
    ]
    first = (query.page - 1) * PER_PAGE
    counts = Counter(each.condition.word for each in judged)
    return Fleet(query, found[first : first + PER_PAGE], len(found), counts)


def _listed(model: ListedModel, watched: int, averages: Mapping[Series, float] | None) -> Listed:
    thresholds = of_fleet(model.stage or "provisional", watched)
    windows = {"fast": model.windows.fast, "slow": model.windows.slow}
    readings = [Reading.listed(*each) for each in windows.items()]
    causes = {(name, ""): each.cause for name, each in windows.items() if each.cause is not None}
    slices = [Reading.listed(each.window, each) for each in model.slices]
    means = (
        None
        if averages is None
        else {
            each.series: averages[series]
            for each in (*readings, *slices)
            if (series := Series(model.model_name, each.window, each.slice)) in averages
        }
    )
    judged = judge(readings, thresholds, means, causes, slices)
    found = condition.now(judged, model.age, model.overdue)
    window = "fast" if found.worst is None else found.worst.window
    return Listed(model, found, thresholds[window].lasting)


def render_fleet(chosen: Fleet, points: Iterable[Point] | None, now: float) -> str:
    """Build the page at ``/``.

    Parameters
    ----------
    chosen : Fleet
    points : iterable of Point or None
        The last 24 hours of the models shown; None if the store does not answer.
    now : float
        Seconds since the epoch.
    """
    lines: dict[tuple[str, str], list[tuple[float, float | None]]] = {}
    for point in points or ():
        of_window = lines.setdefault((point.model_name, point.window_name), [])
        of_window.append((point.at, point.score))
    query = chosen.query
    pages = max(1, -(-chosen.found // PER_PAGE))
    return TEMPLATES.get_template("fleet.html").render(
        total=sum(chosen.counts.values()),
        counts=[(word, chosen.counts[word]) for word in WORDS if chosen.counts[word]],
        words=WORDS,
        q=query.q,
        state=query.state,
        found=chosen.found,
        history=points is not None,
        rows=[_row(each, lines, now) for each in chosen.shown],
        page=query.page,
        pages=pages,
        before=_link(query, -1) if query.page > 1 else "",
        after=_link(query, 1) if query.page < pages else "",
    )


def _link(query: FleetQuery, step: int) -> str:
    asked = {"q": query.q, "state": query.state or "", "page": query.page + step}
    return urlencode({key: value for key, value in asked.items() if value})


def _row(
    each: Listed, lines: Mapping[tuple[str, str], charts.Samples], now: float
) -> dict[str, object]:
    name, worst = each.model.model_name, each.condition.worst
    samples = lines.get((name, "fast" if worst is None else worst.window), ())
    values = [value for _, value in samples]
    frame = charts.frame(values, now - 86_400, now, True, width=140, height=24)
    # The points are those of all vectors of the model.
    is_of_model = each.condition.is_drift and worst is not None and not worst.slice
    return {
        "name": name,
        "path": quote(name, safe=""),
        "condition": each.condition,
        "age": _age(each.model.age) if each.condition.is_watched else "",
        "cause": None if each.condition.cause is None else CAUSES[each.condition.cause],
        "runbook": heading(each.condition),
        "slice": "" if worst is None else worst.slice,
        "since": since(samples, each.lasting) if is_of_model else None,
        "line": frame.path(samples, 4 * DAY_STRETCH),
        "highest": as_score(max((value for value in values if value is not None), default=None)),
    }


def _age(seconds: float | None) -> str:
    """Tell the age of what another exporter measured."""
    return f"checked {condition.duration(seconds)} ago" if seconds else ""
