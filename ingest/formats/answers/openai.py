"""Answers of OpenAI's API, and of all that have taken its form.

They are Azure, Jina, Mistral, Voyage, vLLM, llama.cpp, Hugging Face TEI, Ollama and LiteLLM, among
others. Reference: https://platform.openai.com/docs/api-reference/embeddings/object.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from ingest.formats import checks, spelling
from ingest.formats.answers.answer import Answer, Form
from ingest.formats.fields import Embedding
from ingest.runtime.errors import Problem
from ingest.runtime.http.fields import ModelName
from ingest.runtime.http.openapi import schema


class OpenAIVector(msgspec.Struct, forbid_unknown_fields=True):
    """One vector of an answer of OpenAI's API."""

    embedding: Embedding
    index: int | None = None
    object: str | None = None


class OpenAIAnswer(msgspec.Struct):
    """An answer of OpenAI's API: also of Azure, Jina, Mistral, Voyage, vLLM and TEI."""

    data: list[OpenAIVector]
    model: ModelName | None = None


_DECODER = msgspec.json.Decoder(OpenAIAnswer)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)` - at `\$\.data\[(\d+)\]`", re.DOTALL)


def _matches(fields: Mapping[str, str]) -> bool:
    return fields.get("data") == "["


def _read(body: bytes) -> Answer:
    try:
        decoded = _DECODER.decode(body)
    except msgspec.ValidationError as error:
        found = _UNKNOWN.fullmatch(str(error))
        if found is None:
            raise
        [problem] = spelling.unknown([found[1]], OpenAIVector.__struct_fields__)
        index = int(found[2])
        raise checks.refuse([Problem(f"/data/{index}", problem.reason, index)]) from error
    embeddings = [vector.embedding for vector in decoded.data]
    return Answer(decoded.model, embeddings, "/data/{}/embedding")


FORM = Form(
    "OpenAI, Jina, Voyage", _matches, _read, schema(OpenAIAnswer), (OpenAIVector, OpenAIAnswer)
)
