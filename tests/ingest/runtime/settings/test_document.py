"""Documents: places, and what is refused early."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from ingest.runtime.errors import SettingsError
from ingest.runtime.settings import document

BOMB = "a: &a [" + ", ".join("x" * 9) + "]\n"
for letter, before in zip("bcdefghij", "abcdefghi", strict=True):
    BOMB += f"{letter}: &{letter} [{', '.join([f'*{before}'] * 9)}]\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file.yaml"


def test_values_have_the_place_of_their_key_or_item() -> None:
    found = document.parse("a:\n  b: 1\nc: [x,\n  {d: null}]\n")
    assert found.values == {"a": {"b": 1}, "c": ["x", {"d": None}]}
    assert found.place(["a", "b"]) == "line 2, column 3"
    assert found.place(["c", 1, "d"]) == "line 4, column 4"
    assert found.place(["a", "absent"]) == "line 1, column 1"
    assert found.place(["absent"]) == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "line 1, column 4: anchors (&) and aliases"),
        ("a: " + 10_000 * "[", "line 1, column 23: nesting deeper than 20"),
        ("a: 1\na: 2", "line 2, column 1: this key occurs twice"),
        ("a: *b", "line 1, column 4: anchors (&) and aliases"),
        ("{[a]: 1}", "line 1, column 2: this key is not text"),
        ("<<: {a: 1}", "line 1, column 1: this key is not text"),
        ("a: 2026-99-99", "line 1, column 4: this value is not allowed; put it in quotes"),
        ("a: !!python/name:os.system", "line 1, column 4: this value is not allowed"),
        ("a: 'b", "line 1, column 6: while scanning a quoted scalar"),
        ("a: \x07", "a character is not allowed"),
        ("a: " + 2**20 * "x", "exceeds 1048576 bytes"),
        ("a: 1\n---\nb: 1", "line 2, column 1: expected a single document"),
    ],
    ids=lambda text: f"{text:.20}",
)
def test_what_is_not_allowed_is_refused_early_with_its_place(
    file: Path, text: str, reason: str
) -> None:
    file.write_text(text)
    start = time.thread_time()
    with pytest.raises(SettingsError) as refused:
        document.read(file)
    assert reason in str(refused.value)
    assert time.thread_time() - start < 2


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-05", 1e-5),
        ("5e-2", 0.05),
        ("-1E3", -1000.0),
        ("1.e5", 1e5),
        (".5e+1", 5.0),
        ("0.5", 0.5),
        ("7", 7),
        ("e5", "e5"),
        ("1e", "1e"),
        ("1e5x", "1e5x"),
        ("'1e5'", "1e5"),
    ],
)
def test_a_number_may_have_an_exponent_as_helm_and_json_write_it(text: str, value: object) -> None:
    found = document.parse(f"a: {text}").values["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("-0755", -755),
        ("089", 89),
        ("0o17", 15),
        ("0x1F", 31),
        ("+7", 7),
        ("07.50", 7.5),
        ("1.", 1.0),
        ("-.INF", float("-inf")),
        ("1:30", "1:30"),
        ("1:30.5", "1:30.5"),
        ("1_000", 1000),
        ("-1_0.2_5e1", -102.5),
        ("1__000", "1__000"),
        ("_1", "_1"),
        ("0b11", "0b11"),
        ("'010'", "010"),
    ],
)
def test_numbers_are_those_of_yaml_1_2_and_may_have_underscores(text: str, value: object) -> None:
    found = document.parse(f"a: {text}").values["a"]
    assert (found, type(found)) == (value, type(value))


def test_an_integer_without_end_is_refused() -> None:
    with pytest.raises(SettingsError, match="this value is not allowed"):
        document.decode(b"a: " + b"1" * 10_000, "file")


@pytest.mark.parametrize("value", ["010", "089", "0o17", "1e5", "1:30", "1_000", "yes", "", "a"])
def test_a_text_that_is_written_is_read_as_the_same_text(value: str) -> None:
    written = document.write([{"a": value}])
    assert document.parse(written).values == [{"a": value}]
    # Other programs read YAML 1.1.
    assert yaml.safe_load(written) == [{"a": value}]


def test_a_file_that_is_not_text_is_refused(file: Path) -> None:
    file.write_bytes(b"a: \xff")
    with pytest.raises(SettingsError, match=r"is not UTF-8 \(byte 3\)"):
        document.read(file, "server.tokens_file")
