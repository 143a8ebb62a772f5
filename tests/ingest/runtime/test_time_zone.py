from __future__ import annotations

import pytest

from ingest.runtime import time_zone


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "Asia/Kolkata"])
def test_a_zone_is_found_by_its_name(name: str) -> None:
    assert time_zone.find(name).key == name


@pytest.mark.parametrize(
    "name",
    ["", "Europe", "Europe/Berln", "europe/", "../etc/passwd", "/etc/localtime", "a\0b", "+2"],
)
def test_another_name_is_an_error_that_says_what_is_allowed(name: str) -> None:
    with pytest.raises(ValueError, match="is not a known time zone; allowed are the names of the"):
        time_zone.find(name)
