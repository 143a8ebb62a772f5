"""Which columns hold what."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ingest.files.columns import Options, choose
from ingest.files.table import Kind

LISTS, NUMBERS, OTHER = Kind.VECTORS, Kind.NUMBERS, Kind.OTHER


@pytest.mark.parametrize("name", ["embedding", "embeddings", "vector", "values", "dense", "emb"])
def test_a_usual_name_is_preferred(name: str) -> None:
    kinds = {"title_vector": LISTS, name: LISTS, "tags": LISTS}
    assert choose(kinds, Options()).vectors == (name,)


def test_the_only_column_of_vectors_needs_no_name() -> None:
    choice = choose({"anything": LISTS, "text": OTHER, "n": NUMBERS}, Options())
    assert (choice.vectors, choice.text, choice.others) == (("anything",), "text", ("n",))


def test_several_columns_of_vectors_are_listed() -> None:
    kinds = {"title_vector": LISTS, "content_vector": LISTS}
    message = "has 2 columns of vectors: title_vector, content_vector; choose one with --vector-col"
    with pytest.raises(ValueError, match=message):
        choose(kinds, Options())
    choice = choose(kinds, Options(vector="content_vector"))
    assert (choice.vectors, choice.others) == (("content_vector",), ())


@pytest.mark.parametrize("name", ["." * 100_000, "1" * 50_000 + "x", "x" + "1" * 50_000])
def test_no_name_takes_long(name: str) -> None:
    start = time.thread_time()
    assert choose({"embedding": LISTS, name: NUMBERS}, Options()).others == (name,)
    assert choose({name: NUMBERS, "b": NUMBERS}, Options()).vectors == (name, "b")
    assert time.thread_time() - start < 1


def test_long_names_are_not_shown_whole() -> None:
    with pytest.raises(ValueError, match="has no column of vectors") as error:
        choose({"x" * 10_000: OTHER, "y" * 10_000: OTHER}, Options())
    assert len(str(error.value)) < 500


def test_components_are_numbered_columns_in_order() -> None:
    kinds = {"id": NUMBERS, "dim_10": NUMBERS, "price": NUMBERS}
    kinds |= {f"dim_{n}": NUMBERS for n in range(10)}
    choice = choose(kinds, Options())
    assert choice.vectors == tuple(f"dim_{n}" for n in range(11))
    assert (choice.is_wide, choice.id, choice.others) == (True, "id", ("price",))
    assert choose(kinds, Options(vector="dim_*")).vectors == choice.vectors


def test_a_missing_component_is_named() -> None:
    kinds = {"dim_0": NUMBERS, "dim_2": NUMBERS, "dim_3": NUMBERS}
    with pytest.raises(ValueError, match="'dim_0' to 'dim_3', but number 1 is missing"):
        choose(kinds, Options())


def test_columns_of_row_numbers_are_left_out() -> None:
    for name in ("", "Unnamed: 0", "__index_level_0__", "index", "level_0"):
        assert choose({name: NUMBERS, "v": LISTS}, Options()).others == ()
        assert choose({name: OTHER, "v": LISTS}, Options()).others == (name,)


@pytest.mark.parametrize("name", ["id", "ids", "_id"])
def test_ids_have_a_usual_name_or_one_that_is_given(name: str) -> None:
    kinds = {name: NUMBERS, "key": OTHER, "v": LISTS}
    assert choose(kinds, Options()).id == name
    assert choose(kinds, Options(id="key")).id == "key"


def test_dropped_columns_are_no_metadata() -> None:
    kinds = {"v": LISTS, "a": OTHER, "b": OTHER}
    assert choose(kinds, Options(drop=("a",))).others == ("b",)


def test_what_lies_in_a_dropped_object_is_dropped_with_it() -> None:
    kinds = {"v": LISTS, "user": OTHER, "user.vector": LISTS, "user.text": OTHER, "user.by": OTHER}
    objects = {name: "user" for name in kinds if name.startswith("user.")}
    choice = choose(kinds, Options(drop=("user",)), objects)
    assert (choice.vectors, choice.text, choice.others) == (("v",), None, ())
    choice = choose(kinds, Options(vector="user.vector", drop=("user",)), objects)
    assert (choice.vectors, choice.text, choice.others) == (("user.vector",), None, ())


def test_a_dot_in_a_name_makes_no_object() -> None:
    kinds = {"embedding": LISTS, "embedding.text": OTHER, "text": OTHER, "text.lang": OTHER}
    choice = choose(kinds, Options())
    assert (choice.text, choice.others) == ("text", ("embedding.text", "text.lang"))
    choice = choose(kinds, Options(drop=("text",)))
    assert (choice.text, choice.others) == (None, ("embedding.text", "text.lang"))


def test_dropped_columns_are_neither_text_nor_id_nor_time_nor_model() -> None:
    names = ("id", "timestamp", "text", "model_name")
    kinds = {"embedding": LISTS, **dict.fromkeys(names, OTHER)}
    kept = choose(kinds, Options())
    assert (kept.id, kept.time, kept.text, kept.model) == names
    choice = choose(kinds, Options(drop=names))
    assert (choice.id, choice.time, choice.text, choice.model) == (None,) * 4
    assert choice.others == ()


@pytest.mark.parametrize("option", ["vector", "id", "time", "text", "model"])
def test_a_column_that_does_not_exist_is_an_error_that_lists_those_that_do(option: str) -> None:
    chosen: dict[str, Any] = {option: "x"}
    with pytest.raises(ValueError, match=f"--{option}-column 'x': its columns are 'v', 'w'"):
        choose({"v": LISTS, "w": OTHER}, Options(**chosen))
    with pytest.raises(ValueError, match="--drop 'x': its columns are 'v'"):
        choose({"v": LISTS}, Options(drop=("x",)))
