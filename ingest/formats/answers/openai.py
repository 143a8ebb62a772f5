"""Answers of OpenAI's API, and of all that have taken its form.

They are Azure, Jina, Mistral, Voyage, vLLM, llama.cpp, Hugging Face TEI, Ollama and LiteLLM, among
others. Reference: https://platform.openai.com/docs/api-reference/embeddings/object.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ingest.formats.answers.answer import Answer, Form
from ingest.formats.fields import Embedding
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


def _matches(fields: Mapping[str, str]) -> bool:
    return fields.get("data") == "["


def _read(body: bytes) -> Answer:
    decoded = _DECODER.decode(body)
    embeddings = [vector.embedding for vector in decoded.data]
    return Answer(decoded.model, embeddings, "/data/{}/embedding")


FORM = Form(
    "OpenAI, Jina, Voyage", _matches, _read, schema(OpenAIAnswer), (OpenAIVector, OpenAIAnswer)
)
