"""Query parameters: what is read, and how a mistake is named."""

from __future__ import annotations

import pytest

from ingest.runtime.errors import PayloadError
from ingest.runtime.http import parameters


@pytest.mark.parametrize(
    ("query", "value"),
    [({}, False), ({"a": ""}, True), ({"a": "true"}, True), ({"a": "false"}, False)],
)
def test_a_flag_is_set_by_its_name_alone(query: dict[str, str], value: bool) -> None:
    assert parameters.flag(query, "a") is value


def test_a_choice_and_a_number_have_defaults() -> None:
    assert parameters.choice({}, "a", ("x", "y"), "y") == "y"
    assert parameters.choice({"a": "x"}, "a", ("x", "y"), "y") == "x"
    assert parameters.whole({}, "a", 5, 9) == 5
    assert parameters.whole({"a": "9"}, "a", 5, 9) == 9


@pytest.mark.parametrize("value", ["0", "10", "-1", "1.5", "", "x", "²", "9" * 5_000])
def test_another_number_is_refused_with_the_range(value: str) -> None:
    with pytest.raises(PayloadError, match="allowed are whole numbers from 1 to 9") as refused:
        parameters.whole({"a": value}, "a", 5, 9)
    assert refused.value.problems[0].pointer == "a"
    assert len(refused.value.detail) < 120


def test_a_time_counts_from_the_epoch() -> None:
    assert parameters.moment({}, "a") is None
    assert parameters.moment({"a": "1970-01-01T00:01:00.5Z"}, "a") == 60.5
    assert parameters.moment({"a": "1700000000"}, "a") == 1_700_000_000


def test_another_time_is_refused_with_what_is_wrong_and_what_is_allowed() -> None:
    wanted = (
        "a: 'noon' is not a time as in RFC 3339; allowed are seconds since the epoch, and RFC 3339"
        " with an offset or Z"
    )
    with pytest.raises(PayloadError, match=f"^{wanted}$") as refused:
        parameters.moment({"a": "noon"}, "a")
    assert refused.value.problems[0].pointer == "a"


def test_another_value_is_refused_with_those_that_are_allowed() -> None:
    with pytest.raises(PayloadError, match="a is 'z'; allowed are w, x and y"):
        parameters.choice({"a": "z"}, "a", ("w", "x", "y"), "y")
    with pytest.raises(PayloadError, match="a is 'z'; allowed are x and y"):
        parameters.choice({"a": "z"}, "a", ("x", "y"), "y")
    with pytest.raises(PayloadError, match="a is 'yes'; allowed are true and false"):
        parameters.flag({"a": "yes"}, "a")
