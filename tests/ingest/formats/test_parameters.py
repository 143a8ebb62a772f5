"""Model and dimension in headers and the query."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.runtime.errors import (
    PayloadError,
)
from tests.ingest.formats.bodies import (
    one,
    read,
)

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"x_dimension": "3"}, "X-Model-Name"),
    "illegal model": ({"x_model_name": "a b", "x_dimension": "3"}, "X-Model-Name: 'a b' is not"),
    "dimension 0": ({"x_model_name": "m", "x_dimension": "0"}, "not a whole number above 0"),
    "dimension negative": ({"x_model_name": "m", "x_dimension": "-3"}, "not a whole number"),
    "dimension a word": ({"x_model_name": "m", "x_dimension": "three"}, "'three' is not a whole"),
    "dimension endless": ({"x_model_name": "m", "x_dimension": "9" * 5_000}, "not a whole number"),
    "dimension too large": ({"x_model_name": "m", "x_dimension": "9"}, "exceeds the 8 allowed"),
    "type unknown": ({"x_model_name": "m", "x_dimension": "3", "x_dtype": "f4"}, "X-Dtype: f4 is"),
    "header against query": (
        {"x_model_name": "m", "x_dimension": "3", "query": {"dimension": "1"}},
        "header X-Dimension and query parameter dimension disagree",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_named(mistake: str) -> None:
    arguments, message = WRONG[mistake]
    with pytest.raises(PayloadError, match=message):
        read(bytes(12), "application/octet-stream", **arguments)


def test_header_and_query_may_agree() -> None:
    query = {"model_name": "m", "dimension": "3"}
    batch = read(bytes(12), "application/octet-stream", query, x_model_name="m", x_dimension="3")
    assert (batch.model_name, batch.dimension) == ("m", 3)


def test_the_model_of_the_request_counts_more_than_that_of_a_json_body() -> None:
    assert read(one(), query={"model_name": "x"}).model_name == "x"
    assert read({"embedding": [1.0]}, x_model_name="y").model_name == "y"
    with pytest.raises(PayloadError, match="X-Model-Name: 'a b' is not allowed"):
        read(one(), x_model_name="a b")


@pytest.mark.parametrize("name", ["@cf/baai/bge", "/models/m", "modèle", "\u6a21\u578b"])
def test_a_header_may_be_utf_8(name: str) -> None:
    sent = name.encode().decode("latin-1")
    found = read(bytes(12), "application/octet-stream", x_model_name=sent, x_dimension="3")
    assert found.model_name == name
    assert read(one(), x_model_name="mod\xe8le").model_name == "modèle"


def test_json_needs_no_dimension_and_ignores_it() -> None:
    assert read(one(), x_dimension="nothing").dimension == 2
