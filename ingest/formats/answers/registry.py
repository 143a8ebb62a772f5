"""The registry of forms of answers, and the function that reads one.

A new form is one module with a ``FORM``, and one line in `FORMS`.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from ingest.formats.answers import cohere, ollama, openai, tei
from ingest.formats.answers.answer import Answer
from ingest.runtime.errors import PayloadError

FORMS = (openai.FORM, ollama.FORM, cohere.FORM, tei.FORM)

_START = 100
_OURS = ("model_name", "embeddings", "ids", "metadata")
_BESIDE = ("model_name", "ids", "metadata")
"""Those of our fields that no answer has. They would be lost."""
_FIELDS = msgspec.json.Decoder(dict[str, Raw])


def read(body: bytes) -> Answer | None:
    """Read an answer of an embedding API; return None if the body is not of any form.

    Raises
    ------
    msgspec.DecodeError
        If the body is not JSON, or of a form but for the place that the error names.
    PayloadError
        If the answer has no vectors that can be stored.
    """
    is_list = body[:_START].lstrip()[:1] == b"["
    kinds = {} if is_list else {name: _first(value) for name, value in fields(body).items()}
    form = next((form for form in FORMS if (kinds or is_list) and form.matches(kinds)), None)
    if form is None:
        return None
    if ours := [name for name in _BESIDE if name in kinds]:
        raise PayloadError(
            f'the body is an answer of {form.name} and has "{ours[0]}", too; to send more than the'
            f" answer, make a body of the fields {', '.join(_OURS)}"
        )
    return form.read(body)


def _first(value: Raw) -> str:
    return chr(memoryview(value)[0])


def fields(body: bytes) -> dict[str, Raw]:
    """Return the fields of a body that is an object.

    Raises
    ------
    msgspec.DecodeError
        If it is not.
    """
    return _FIELDS.decode(body)
