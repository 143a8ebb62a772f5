"""Content negotiation, by the examples of RFC 9110."""

from __future__ import annotations

import pytest

from ingest.runtime.http.negotiation import Preference, accepts_gzip, media_types, preferences


def test_media_ranges_are_ordered_by_quality() -> None:
    """RFC 9110, section 12.5.1."""
    header = (
        "text/*;q=0.3, text/plain;q=0.7, text/plain;format=flowed,"
        " text/plain;format=fixed;q=0.4, */*;q=0.5"
    )
    assert preferences(header) == [
        Preference("text/plain", ";format=flowed", 1),
        Preference("text/plain", "", 0.7),
        Preference("*/*", "", 0.5),
        Preference("text/plain", ";format=fixed", 0.4),
        Preference("text/*", "", 0.3),
    ]


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        # RFC 9110, section 12.5.3.
        ("compress, gzip", True),
        ("", False),
        ("*", True),
        ("compress;q=0.5, gzip;q=1.0", True),
        ("gzip;q=1.0, identity; q=0.5, *;q=0", True),
        # What it says besides.
        ("gzip;q=0", False),
        ("GZip ; q=0.001", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("deflate, *;q=0.5", True),
        ("gzip;q=0.5, identity", False),
        ("gzip;q=0.5, identity;q=0.5", True),
        ("gzip;q=2", True),
        ("deflate", False),
        (" , gzip,", True),
    ],
)
def test_gzip_is_used_only_where_it_is_acceptable(header: str, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted


TEXT, JSON = "text/plain", "application/json"


@pytest.mark.parametrize(
    ("header", "acceptable"),
    [
        ("", []),
        ("*/*", [TEXT, JSON]),
        ("text/*", [TEXT]),
        ("application/json;q=0.5, text/plain", [TEXT, JSON]),
        ("text/plain;q=0, */*", [JSON]),
        ("image/png", []),
        ("*/*, application/json", [JSON, TEXT, JSON]),
        ("Text/Plain; version=1.0.0;q=0.1", ["text/plain;version=1.0.0"]),
    ],
)
def test_acceptable_types_come_best_first(header: str, acceptable: list[str]) -> None:
    assert media_types(header, (TEXT, JSON)) == acceptable
