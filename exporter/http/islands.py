"""The map of a window as SVG: the baseline in the middle, and an island for each group that grew.

It is drawn on the server, as the lines are. A click on a vector shows its text below: the link's
target is an item of a list that is hidden otherwise. So the map needs no script.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from exporter.monitor.report import Explanation, Map, MapPoint

WIDTH, HEIGHT = 760, 460
_MIDDLE = (WIDTH / 2, HEIGHT / 2)
_RADIUS = 205.0
"""Of the map, in user units."""
COLOURS = 8
_TOP, _BOTTOM, _ASIDE = 55.0, 385.0, 85.0
"""Where the highest and the lowest island is, and how far all are from the sides."""
_DOT = 4.5
"""Distance of the vectors of an island, about."""
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
_WORDS = 22
"""Characters of a name on the map."""
_LETTER, _LINE = 7.0, 14.0
"""Width of a letter of such a name, about, and height of its line."""


@dataclass(frozen=True, slots=True)
class Point:
    """A vector of the window: where it is, and what is known of it."""

    x: float
    y: float
    told: MapPoint


@dataclass(frozen=True, slots=True)
class Island:
    """A group that grew; its place and its colour belong to its id.

    Its middle is at ``x`` and ``y``. Its name is below its vectors, at ``x`` and ``name_y``.
    """

    id: str
    colour: int
    name: str
    share: str
    x: float
    y: float
    name_y: float
    points: list[Point] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ring:
    """Where a group was that shrank."""

    id: str
    colour: int
    name: str
    share: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True)
class Label:
    """The name of a part of the map."""

    x: float
    y: float
    name: str


@dataclass(frozen=True, slots=True)
class Chart:
    """The whole map.

    Attributes
    ----------
    baseline : str
        Data of an SVG path that draws a dot for each vector.
    labels : list of Label
    points : list of Point
        Vectors of the window that are in no group.
    islands : list of Island
    rings : list of Ring
    """

    baseline: str
    labels: list[Label]
    points: list[Point]
    islands: list[Island]
    rings: list[Ring]

    def listed(self) -> Iterator[Point]:
        """Yield all vectors of the window that are drawn."""
        for island in self.islands:
            yield from island.points
        yield from self.points


def colour(group_id: str) -> int:
    """Return the number of the colour of a group: the same as long as it has its id."""
    return (int(group_id.removeprefix("g")) - 1) % COLOURS


def chart(drawn: Mapping[str, Any], groups: Sequence[Any]) -> Chart:
    """Lay out a map.

    Parameters
    ----------
    drawn : mapping
        As the store has it: ``baseline``, ``regions``, ``rings`` and ``points``.
    groups : sequence of exporter.monitor.report.Group
        Those of the same explanation.
    """
    by_id = {each.id: each for each in groups}
    members: dict[str | None, list[MapPoint]] = {}
    for point in msgspec.convert(drawn["points"], list[MapPoint]):
        known = point.group if point.group in by_id else None
        members.setdefault(known, []).append(point)
    return Chart(
        baseline="".join(
            "M{} {}h0".format(*map(round, _place(x, y))) for x, y in drawn["baseline"]
        ),
        labels=_labels(drawn["regions"]),
        points=[Point(*_place(each.x, each.y), each) for each in members.get(None, [])],
        islands=list(_islands([each for each in groups if each.change == "grown"], members)),
        rings=[_ring(each, by_id[each["name"]]) for each in drawn["rings"]],
    )


def described(model_name: str, told: Explanation, drawn: Mapping[str, Any]) -> Map:
    """Describe the map of an explanation for programs, in the coordinates of the store."""
    laid_out = chart(drawn, told.groups)
    places = {each.id: (each.x, each.y) for each in laid_out.islands}
    places |= {each.id: (each.x, each.y) for each in laid_out.rings}
    groups = [
        {
            "x": round((places[each.id][0] - _MIDDLE[0]) / _RADIUS, 3),
            "y": round((_MIDDLE[1] - places[each.id][1]) / _RADIUS, 3),
            "id": each.id,
            "name": each.name,
            "change": each.change,
            "share": each.share,
            "share_before": each.share_before,
        }
        for each in told.groups
        if each.id in places
    ]
    return msgspec.convert(
        {
            "model_name": model_name,
            "window": told.window,
            "explained_at": told.explained_at,
            "baseline": [{"x": x, "y": y} for x, y in drawn["baseline"]],
            "regions": drawn["regions"],
            "groups": groups,
            "points": drawn["points"],
        },
        Map,
    )


def _place(x: float, y: float) -> tuple[float, float]:
    return round(_MIDDLE[0] + _RADIUS * x, 1), round(_MIDDLE[1] - _RADIUS * y, 1)


def _islands(
    grown: Sequence[Any], members: Mapping[str | None, Sequence[MapPoint]]
) -> Iterator[Island]:
    """Lay out the groups. The typical vectors are in the middle of an island."""
    free = dict(enumerate(_places(max(COLOURS, len(grown)))))
    for group in sorted(grown, key=lambda each: int(each.id.removeprefix("g"))):
        preferred = colour(group.id)
        # Two groups with the same colour are rare: the later one takes another place.
        x, y = free.pop(preferred if preferred in free else min(free))
        inside = members.get(group.id, [])
        island = Island(
            group.id,
            preferred,
            _short(group.name),
            _share(group),
            x,
            y,
            round(y + _DOT * math.sqrt(len(inside)) + 20, 1),
        )
        for rank, told in enumerate(inside):
            away = _DOT * math.sqrt(rank)
            angle = rank * _GOLDEN_ANGLE
            island.points.append(
                Point(
                    round(x + away * math.cos(angle), 1),
                    round(y + away * math.sin(angle), 1),
                    told,
                )
            )
        yield island


def _places(count: int) -> list[tuple[float, float]]:
    """Return where the middle of an island may be: right and left by turns, from the top."""
    rows = math.ceil(count / 2)
    apart = (_BOTTOM - _TOP) / (rows - 1)
    return [(x, _TOP + apart * row) for row in range(rows) for x in (WIDTH - _ASIDE, _ASIDE)]


def _ring(drawn: Mapping[str, Any], group: Any) -> Ring:
    x, y = _place(drawn["x"], drawn["y"])
    radius = round(_RADIUS * drawn["radius"], 1)
    return Ring(group.id, colour(group.id), _short(group.name), _share(group), x, y, radius)


def _labels(regions: Sequence[Mapping[str, Any]]) -> list[Label]:
    """Return the names of regions, but those that would cover one before."""
    labels: list[Label] = []
    for region in regions:
        label = Label(*_place(region["x"], region["y"]), _short(region["name"]))
        if not any(_overlap(label, other) for other in labels):
            labels.append(label)
    return labels


def _overlap(one: Label, other: Label) -> bool:
    room = _LETTER * (len(one.name) + len(other.name)) / 2
    return abs(one.y - other.y) < _LINE and abs(one.x - other.x) < room


def _share(group: Any) -> str:
    return f"{100 * group.share:.1f}% (was {100 * group.share_before:.1f}%)"


def _short(name: str) -> str:
    return name if len(name) <= _WORDS else f"{name[: _WORDS - 1]}…"
