"""Values of the metadata say where a change comes from."""

from __future__ import annotations

import time

import numpy as np
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
    nothing = set[tuple[str, str]]()
    observed = [*[{("a", "x")}] * 3, *[nothing] * 7] * 10
    others = [{("a", "x")}, *[nothing] * 49] * 20
    assert overrepresented(observed, others, set()) == [Value("a", "x", 0.3, 0.02)]


def test_equal_frequencies_name_nothing() -> None:
    assert found(OTHERS[:200], OTHERS) == []


def test_a_sure_but_small_difference_names_nothing() -> None:
    observed = [{("a", "x")}] * 5_900 + [{("a", "y")}] * 4_100
    others = [{("a", "x")}] * 5_000 + [{("a", "y")}] * 5_000
    assert overrepresented(observed, others, set()) == []


def test_sure_but_small_differences_do_not_hide_a_large_one() -> None:
    small = ("a", "b", "c")
    observed = [{(key, "x" if row % 100 < 59 else "y") for key in small} for row in range(10_000)]
    others = [{(key, "x" if row % 100 < 50 else "y") for key in small} for row in range(10_000)]
    for row in range(0, 10_000, 500):
        observed[row].add(("d", "z"))
    assert overrepresented(observed, others, set()) == [Value("d", "z", 0.002, 0.0)]


def in_sessions(
    random: np.random.Generator, n: int, weights: dict[str, int]
) -> list[dict[str, object]]:
    """Tenants whose sessions have 20 to 50 observations; eight sessions at a time."""
    share = np.array(list(weights.values())) / sum(weights.values())
    waiting: list[list[str]] = [[] for _ in range(8)]
    observed: list[dict[str, object]] = []
    for one in random.integers(8, size=n):
        if not waiting[one]:
            tenant = str(random.choice(list(weights), p=share))
            waiting[one] = [tenant] * int(random.integers(20, 51))
        observed.append({"tenant": waiting[one].pop()})
    return observed


USUAL = {f"t{each}": 1 for each in range(20)}


@pytest.mark.parametrize("n", [250, 1_000])
def test_sessions_without_a_change_name_hardly_anything(n: int) -> None:
    named = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        others = in_sessions(random, 2_500, USUAL)
        named += bool(found(in_sessions(random, n, USUAL), others))
    assert named <= 2


def test_sessions_that_the_others_lack_name_little() -> None:
    named = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        others = random.permutation(np.array(in_sessions(random, 2_500, USUAL), object)).tolist()
        named += bool(found(in_sessions(random, 1_000, USUAL), others))
    assert named <= 6


@pytest.mark.parametrize("tenant", ["t3", "new"])
def test_a_tenant_whose_sessions_became_far_more_is_named(tenant: str) -> None:
    named = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        observed = in_sessions(random, 1_000, USUAL | {tenant: 15})
        named += found(observed, in_sessions(random, 2_500, USUAL))[:1] == [("tenant", tenant)]
    assert named >= 18


@pytest.mark.parametrize("before", [0, 50])
@pytest.mark.parametrize("begin", [500, 850])
def test_a_value_that_begins_late_is_named(before: int, begin: int) -> None:
    random = np.random.default_rng(0)
    others = random.permutation(["de"] * before + ["en"] * (1_000 - before)).tolist()
    observed = ["en"] * begin + ["de"] * (1_000 - begin)
    sides = ([{"language": each} for each in side] for side in (observed, others))
    assert found(*sides) == [("language", "de")]


@pytest.mark.parametrize("share", [0.4, 1.0])
def test_a_version_after_one_that_changed_within_the_others_is_named(share: float) -> None:
    new = round(1_000 * share)
    others = ["1.0"] * 1_250 + ["1.1"] * 1_250
    observed = ["1.1"] * (1_000 - new) + ["1.2"] * new
    assert found(versions(observed), versions(others)) == [("app", "1.2")]


def versions(side: list[str]) -> list[dict[str, object]]:
    return [{"app": version} for version in side]


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


@pytest.mark.parametrize("text", [4_711, 47.11, True, None, ["a"]])
def test_a_text_that_is_none_shows_nothing(text: object) -> None:
    assert pairs({"text": text, "number": 4_711}) == {("number", "4711")}


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
