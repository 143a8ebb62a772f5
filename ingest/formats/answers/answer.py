"""What an answer of an embedding API comes down to, and what its form is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw


@dataclass(frozen=True, slots=True)
class Answer:
    """The vectors of an answer.

    Attributes
    ----------
    model_name : str or None
        What the answer calls the model.
    embeddings : list of Raw
        JSON of each vector.
    place : str
        JSON pointer of a vector, with ``{}`` for its index.
    texts : list of str or None
        What was embedded, if the answer says so.
    model_place : str
        JSON pointer of the model's name; empty if answers of this form never have one.
    """

    model_name: str | None
    embeddings: list[Raw]
    place: str
    texts: list[str] | None = None
    model_place: str = "/model"


class Form(NamedTuple):
    """A form of answers.

    Attributes
    ----------
    name : str
        The APIs that answer so.
    matches : callable
        Tells by the first letter of each field whether an object is of this form. A list has no
        fields.
    read : callable
        Reads a body that is. Raises msgspec.ValidationError with the place of what is wrong, or
        PayloadError.
    schema : dict
        OpenAPI schema.
    structs : tuple of Struct types
        What the schema refers to.
    """

    name: str
    matches: Callable[[Mapping[str, str]], bool]
    read: Callable[[bytes], Answer]
    schema: dict[str, Any]
    structs: tuple[type[msgspec.Struct], ...]
