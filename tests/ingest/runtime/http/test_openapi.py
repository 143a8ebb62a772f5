"""The OpenAPI document made of parts."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from ingest.runtime.http.openapi import Description, document, schema


class Inner(msgspec.Struct):
    """Within another."""

    count: Annotated[int, Meta(ge=0, description="How many.")]


class Outer(msgspec.Struct):
    """An answer."""

    inner: Inner
    name: str = "m"


def test_schemas_come_from_structs_and_those_within() -> None:
    schemas = document([Description({}, structs=[Outer])], [])["components"]["schemas"]
    assert schema(Outer) == {"$ref": "#/components/schemas/Outer"}
    assert schemas["Outer"]["properties"]["inner"] == schema("Inner")
    assert schemas["Outer"]["required"] == ["inner"]
    assert schemas["Inner"]["properties"]["count"] == {
        "type": "integer",
        "minimum": 0,
        "description": "How many.",
    }


def test_keywords_that_a_struct_cannot_say_are_added_to_its_schema() -> None:
    part = Description({}, structs=[Outer], schemas={"Outer": {"maxProperties": 2}, "Text": {}})
    schemas = document([part], [])["components"]["schemas"]
    assert schemas["Outer"]["maxProperties"] == 2
    assert schemas["Outer"]["description"] == "An answer."
    assert schemas["Text"] == {}


def test_an_operation_names_its_scope_and_the_refusals_of_the_guard() -> None:
    part = Description(
        {"/embeddings": {"post": {"responses": {"201": {"description": "Stored."}}}}}
    )
    operation = document([part], ["basic", "bearer"])["paths"]["/embeddings"]["post"]
    assert operation["security"] == [{"basic": []}, {"bearer": ["write"]}]
    assert list(operation["responses"]) == ["201", "401", "403", "429"]
