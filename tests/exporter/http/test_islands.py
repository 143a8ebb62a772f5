"""The map as SVG: islands keep their place and colour, and all stays inside the drawing."""

from __future__ import annotations

from exporter.http.islands import COLOURS, HEIGHT, WIDTH, chart, colour, described
from exporter.monitor import recorded
from exporter.monitor.report import Group
from tests.exporter.explained import drawn, explained, point


def group(number: int, change: str = "grown", name: str = "audio, player") -> Group:
    assert change in ("grown", "shrunk")
    return Group(f"g{number}", name, change, 0.095, 0.08, 0.11, 0.022, [], [], [])  # type: ignore[arg-type]


def test_a_group_keeps_its_place_and_its_colour_when_others_come_and_go() -> None:
    alone = chart(drawn(point(1, "g2")), [group(2)])
    among = chart(drawn(point(1, "g2")), [group(number) for number in (4, 2, 1)])
    [island] = alone.islands
    [same] = [each for each in among.islands if each.id == "g2"]
    assert (same.x, same.colour) == (island.x, island.colour)
    assert len({(each.x, each.name_y) for each in among.islands}) == 3


def test_groups_of_the_same_colour_have_different_places() -> None:
    found = chart(drawn(), [group(1), group(1 + COLOURS)])
    one, other = found.islands
    assert one.colour == other.colour == colour("g1")
    assert (one.x, one.name_y) != (other.x, other.name_y)


def test_any_number_of_groups_has_places_inside_the_drawing() -> None:
    many = [group(number) for number in range(1, 2 * COLOURS + 2)]
    found = chart(drawn(*(point(seq, f"g{seq}") for seq in range(1, len(many) + 1))), many)
    places = {(each.x, each.y) for each in found.listed()}
    assert len(places) == len(many)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)


def test_what_is_typical_is_in_the_middle_of_an_island() -> None:
    [island] = chart(drawn(*(point(seq, "g1") for seq in range(30))), [group(1)]).islands
    first = island.points[0]
    away = [abs(each.x - first.x) + abs(each.y - first.y) for each in island.points]
    assert away.index(0) == 0
    assert max(away[:5]) < max(away)
    assert island.name_y > max(each.y for each in island.points)


def test_vectors_of_no_group_and_of_shrunk_ones_stay_on_the_map() -> None:
    shown = chart(drawn(point(1, x=0.5), point(2, "g9"), rings=("g3",)), [group(3, "shrunk")])
    assert [each.told.seq for each in shown.points] == [1, 2]
    assert [each.told.seq for each in shown.listed()] == [1, 2]
    [ring] = shown.rings
    assert (ring.name, ring.share) == ("audio, player", "9.5% (was 2.2%)")
    assert ring.x < WIDTH / 2 < shown.points[0].x
    assert ring.y < HEIGHT / 2  # up is positive in the store, and negative in SVG


def test_everything_is_inside_the_drawing() -> None:
    groups = [group(number) for number in range(1, COLOURS + 1)]
    points = [point(row, f"g{1 + row % COLOURS}") for row in range(250)]
    found = chart(drawn(*points), groups)
    for each in found.listed():
        assert 0 <= each.x <= WIDTH
        assert 0 <= each.y <= HEIGHT
    assert all(island.name_y + 15 < HEIGHT for island in found.islands)


def test_a_long_name_is_cut() -> None:
    [island] = chart(drawn(), [group(1, name="x" * 60)]).islands
    assert len(island.name) == 22
    assert island.name.endswith("…")


def test_programs_get_groups_with_names_shares_and_positions_and_vectors() -> None:
    told = recorded.explanation(explained(1e9))
    found = described("m", told, drawn(point(7, "g1", 0.5, -0.25), point(8), rings=("g2",)))
    assert (found.model_name, found.window) == ("m", "fast")
    grown, shrunk = found.groups
    assert (grown.id, grown.name, grown.share, grown.share_before) == (
        "g1",
        "audio, player",
        0.095,
        0.022,
    )
    assert grown.x**2 + grown.y**2 > 1  # an island
    assert (shrunk.name, shrunk.change, shrunk.x, shrunk.y) == ("perl", "shrunk", -0.5, 0.5)
    assert [(each.x, each.y) for each in found.baseline] == [(-1, 0), (1, 0), (0, 1)]
    assert [(each.seq, each.group, each.x, each.y) for each in found.points] == [
        (7, "g1", 0.5, -0.25),
        (8, None, 0.0, 0.0),
    ]
    [region] = found.regions
    assert region.name == "perl"


def test_no_name_of_a_region_covers_another() -> None:
    places = {"perl": (0.0, 0.0), "ruby": (0.1, 0.02), "fonts": (0.0, 0.1), "kernel": (0.5, 0.0)}
    regions = [{"x": x, "y": y, "name": name} for name, (x, y) in places.items()]
    shown = chart(drawn() | {"regions": regions}, [])
    assert [each.name for each in shown.labels] == ["perl", "fonts", "kernel"]
