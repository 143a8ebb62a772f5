"""Answers of Cohere's API: version 1, and embeddings by type as version 2 has them.

They do not name the model. Reference: https://docs.cohere.com/reference/embed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from ingest.formats.answers.answer import Answer, Form
from ingest.formats.fields import Embedding
from ingest.runtime.errors import PayloadError
from ingest.runtime.http.openapi import schema


class CohereTypes(msgspec.Struct, rename={"float_": "float"}):
    """Embeddings of one or more types. The first of float, base64, int8 and uint8 is stored."""

    float_: list[Embedding] | None = None
    base64: list[Embedding] | None = None
    int8: list[Embedding] | None = None
    uint8: list[Embedding] | None = None


class CohereAnswer(msgspec.Struct):
    """An answer of Cohere's embed API, version 1 or 2."""

    embeddings: Annotated[
        Raw, Meta(extra_json_schema={"anyOf": [schema("Embeddings"), schema(CohereTypes)]})
    ]
    texts: Annotated[
        list[str] | None, Meta(description="Each becomes the `text` of its vector's metadata.")
    ] = None


_DECODER = msgspec.json.Decoder(CohereAnswer)
_TYPES = msgspec.json.Decoder(CohereTypes)
_LIST = msgspec.json.Decoder(list[Raw])


def _matches(fields: Mapping[str, str]) -> bool:
    kind = fields.get("embeddings")
    return kind == "{" or (kind == "[" and ("response_type" in fields or "texts" in fields))


def _read(body: bytes) -> Answer:
    decoded = _DECODER.decode(body)
    embeddings, place = _chosen(decoded.embeddings)
    texts = decoded.texts if decoded.texts and len(decoded.texts) == len(embeddings) else None
    return Answer(None, embeddings, place, texts, model_place="")


def _chosen(embeddings: Raw) -> tuple[list[Raw], str]:
    if bytes(memoryview(embeddings)[:1]) == b"[":
        return _LIST.decode(embeddings), "/embeddings/{}"
    types = _TYPES.decode(embeddings)
    for name in CohereTypes.__struct_encode_fields__:
        found = getattr(types, f"{name}_" if name == "float" else name)
        if found:
            return found, f"/embeddings/{name}/{{}}"
    raise PayloadError(
        "the answer of Cohere has embeddings of none of the types that can be stored; allowed are"
        f" {', '.join(CohereTypes.__struct_encode_fields__)} (binary ones pack 8 components into a"
        " number)"
    )


FORM = Form("Cohere", _matches, _read, schema(CohereAnswer), (CohereTypes, CohereAnswer))
