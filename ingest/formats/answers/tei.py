"""Answers of Hugging Face's Text Embeddings Inference: a bare list of vectors.

They do not name the model. Reference:
https://huggingface.github.io/text-embeddings-inference.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from ingest.formats.answers.answer import Answer, Form
from ingest.runtime.http.openapi import schema

_DECODER = msgspec.json.Decoder(list[Raw])


def _read(body: bytes) -> Answer:
    vectors = _DECODER.decode(body)
    if vectors and bytes(memoryview(vectors[0])[:1]) not in (b"[", b'"'):
        # The vector of one text, as the feature extraction of Hugging Face answers.
        return Answer(None, [Raw(body)], "", model_place="")
    return Answer(None, vectors, "/{}", model_place="")


FORM = Form("Hugging Face TEI", lambda fields: not fields, _read, schema("Embeddings"), ())
