"""Columns in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from ingest.files.table import CHUNK, Array, Objects, Records, Times, number
from ingest.runtime.timestamps import Unit


def test_a_time_may_be_missing_or_wrong() -> None:
    assert np.isnan(Times().read(None))
    assert np.isnan(Times().read(float("nan")))
    assert Times().read("yesterday") == "'yesterday' is not a time as in RFC 3339"


def test_typed_times_without_a_zone_are_utc_unless_one_is_given() -> None:
    column = Array(np.array(["2026-07-01T12:00", "NaT"], "M8[ns]"))
    seconds = column.seconds(Times())
    assert seconds[0] == 1_782_907_200
    assert np.isnan(seconds[1])
    berlin = column.seconds(Times(zone=ZoneInfo("Europe/Berlin")))
    assert berlin[0] == 1_782_907_200 - 2 * 3_600
    assert np.isnan(berlin[1])


@pytest.mark.parametrize("zone", [None, ZoneInfo("Europe/Berlin")])
def test_typed_times_out_of_range_are_named_as_texts_are(zone: ZoneInfo | None) -> None:
    wrong = ["0001-01-01T00:00:00.000000", "9999-12-31T23:59:59.999999"]
    items = np.array(
        ["2026-07-01T12:00", wrong[0], "NaT", wrong[1], "1969-12-31T22:59:59"], "M8[us]"
    )
    first, *others = Array(items).seconds(Times(zone=zone))
    assert first == 1_782_907_200 - (2 * 3_600 if zone else 0)
    assert np.isnan(others.pop(1))
    texts = [*wrong, "1969-12-31T22:59:59.000000"]
    assert others == [f"{text!r} is out of range" for text in texts]
    assert others == [Times(zone=zone or UTC).read(text) for text in texts]


@pytest.mark.parametrize("unit", ["Y", "M", "D", "h", "25s", "ms", "ns", "ps"])
def test_typed_times_are_of_any_unit(unit: str) -> None:
    [moment, missing] = np.array(["1970-02-01", "NaT"], f"M8[{unit}]")
    seconds = Array(np.array([moment, missing])).seconds(Times())
    assert seconds[0] == float(moment.astype("M8[s]").astype(int))
    assert np.isnan(seconds[1])


def test_a_typed_time_of_a_coarse_unit_does_not_wrap_around() -> None:
    [reason] = Array(np.array([2**62], "M8[s]")).seconds(Times())
    assert reason == "'146138514283-06-19T07:45:04' is not a time as in RFC 3339"


def test_a_typed_time_before_1970_may_be_after_it_in_its_zone() -> None:
    column = Array(np.array(["1969-12-31T23:00"], "M8[us]"))
    assert column.seconds(Times(zone=ZoneInfo("America/New_York"))) == [4 * 3_600]


@pytest.mark.parametrize("unit", ["s", "ns"])
def test_a_typed_time_beyond_the_years_of_python_is_wrong(unit: Unit) -> None:
    for zone in (None, UTC):
        [reason] = Array(np.array(["12000-01-01"], "M8[us]")).seconds(Times(unit, zone))
        assert reason == "'12000-01-01T00:00:00.000000' is not a time as in RFC 3339"


@pytest.mark.parametrize(
    ("value", "expected"), [("0,5", 0.5), ("-1,5e3", -1500.0), ("1.5", 1.5), (2, 2.0)]
)
def test_a_number_may_have_a_decimal_comma(value: object, expected: float) -> None:
    assert number(value) == expected


@pytest.mark.parametrize("value", ["", "1,000,000", "x", None, True])
def test_anything_else_is_no_number(value: object) -> None:
    assert isinstance(number(value), str)


def test_rows_before_an_error_come_first() -> None:
    def records() -> Iterator[tuple[int, Any]]:
        yield from ((n, {"v": [1.0]}) for n in range(CHUNK + 10))
        raise ValueError("is cut off")

    table = Records("row", records())
    chunks = table.chunks(0, ["v"])
    assert [len(next(chunks)), len(next(chunks))] == [CHUNK, 10]
    with pytest.raises(ValueError, match="is cut off"):
        next(chunks)


def test_a_nested_value_is_found_by_its_path() -> None:
    table = Records("line", [(1, {"a": {"b": [1.0, 2.0]}}), (2, {"a": None})])
    [chunk] = table.chunks(0, ["a.b"])
    assert chunk.columns["a.b"] == Objects([[1.0, 2.0], None])
