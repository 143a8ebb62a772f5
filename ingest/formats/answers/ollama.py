"""Answers of Ollama's own API.

``POST /api/embeddings`` answers ``{"embedding": [...]}``, which needs no form of its own: the
model's name comes as a header or in the query. Reference:
https://docs.ollama.com/api/embed.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ingest.formats.answers.answer import Answer, Form
from ingest.formats.fields import Embedding
from ingest.runtime.http.fields import ModelName
from ingest.runtime.http.openapi import schema


class OllamaAnswer(msgspec.Struct, forbid_unknown_fields=True):
    """An answer of Ollama's POST /api/embed."""

    model: ModelName
    embeddings: list[Embedding]
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None


_DECODER = msgspec.json.Decoder(OllamaAnswer)


def _matches(fields: Mapping[str, str]) -> bool:
    return "model" in fields and set(fields) <= set(OllamaAnswer.__struct_fields__)


def _read(body: bytes) -> Answer:
    decoded = _DECODER.decode(body)
    return Answer(decoded.model, decoded.embeddings, "/embeddings/{}")


FORM = Form("Ollama", _matches, _read, schema(OllamaAnswer), (OllamaAnswer,))
