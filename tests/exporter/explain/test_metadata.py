"""Values of the metadata say where a change comes from."""

from __future__ import annotations

import time

import pytest

from exporter.explain.metadata import Catalogue, Value, overrepresented, pairs


def found(
    observed: list[dict[str, object]], others: list[dict[str, object]]
) -> list[tuple[str, str]]:
    ours, theirs = Catalogue(observed), Catalogue(others)
    values = overrepresented(
        ours[range(len(observed))],
        theirs[range(len(others))],
        ours.identifiers | theirs.identifiers,
    )
    return [(each.key, each.value) for each in values]


OTHERS: list[dict[str, object]] = [
    {"language": "en", "tenant": f"t{row % 10}", "id": row} for row in range(1_000)
]


def test_the_injected_value_comes_first() -> None:
    german = [{"language": "de", "tenant": f"t{row % 3}", "id": -row} for row in range(100)]
    assert found(german, OTHERS)[0] == ("language", "de")
    assert ("tenant", "t0") in found(german, OTHERS)


def test_a_value_comes_with_its_shares() -> None:
    observed = [{("a", "x")}] * 30 + [set[tuple[str, str]]()] * 70
    others = [{("a", "x")}] * 20 + [set[tuple[str, str]]()] * 980
    assert overrepresented(observed, others, set()) == [Value("a", "x", 0.3, 0.02)]


def test_equal_frequencies_name_nothing() -> None:
    assert found(OTHERS[:200], OTHERS) == []


def test_a_sure_but_small_difference_names_nothing() -> None:
    observed = [{("a", "x")}] * 5_900 + [{("a", "y")}] * 4_100
    others = [{("a", "x")}] * 5_000 + [{("a", "y")}] * 5_000
    assert overrepresented(observed, others, set()) == []


def test_identifiers_are_left_out() -> None:
    observed: list[dict[str, object]] = [{"request": f"r{row // 3}"} for row in range(30)]
    others: list[dict[str, object]] = [{"request": f"s{row}"} for row in range(1_000)]
    assert found(observed, others) == []


def test_one_value_in_a_few_observations_is_no_evidence() -> None:
    observed: list[dict[str, object]] = [{"a": "x"}, {"a": "x"}, *[{}] * 98]
    assert found(observed, [{}] * 1_000) == []


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("Введите пароль", ("text.script", "cyrillic")),
        ("パスワード", ("text.script", "katakana")),
        ("12345", ("text.script", "none")),
        ("short", ("text.length", "up to 20")),
        ("long " * 200, ("text.length", "above 500")),
        ("<b>bold</b>", ("text.form", "markup")),
        ("see https://example.org", ("text.form", "link")),
        ("Traceback (most recent call last)", ("text.form", "error")),
    ],
)
def test_a_text_shows_script_length_and_form(text: str, pair: tuple[str, str]) -> None:
    assert pair in pairs({"text": text})


def test_a_text_of_many_open_brackets_is_read_in_no_time() -> None:
    began = time.process_time()
    assert ("text.form", "markup") not in pairs({"text": "<a" * 50_000})
    assert time.process_time() - began < 1
    assert ("text.form", "markup") in pairs({"text": "<a" * 50_000 + ">"})


def test_numbers_and_truth_values_are_values_but_objects_and_long_strings_are_not() -> None:
    metadata = {"a": 1, "b": True, "c": {"d": 1}, "e": "x" * 101, "f": None}
    assert pairs(metadata) == {("a", "1"), ("b", "true")}
    assert pairs(None) == set()


def test_a_key_that_is_longer_than_a_name_is_left_out() -> None:
    kept = "k" * 100
    assert pairs({"k" * 101: "x", kept: "x", "l" * 16_000: True}) == {(kept, "x")}
