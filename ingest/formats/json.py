"""JSON bodies: one vector or a batch, with ids and metadata; and answers of embedding APIs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Raw, UnsetType
from numpy.typing import NDArray

from ingest.formats import checks, json_vectors, spelling
from ingest.formats.answers import registry as answers
from ingest.formats.fields import Dtype, Embedding, Embeddings, Metadata, VectorId
from ingest.formats.format import Format, Place
from ingest.formats.parameters import Parameters
from ingest.runtime.errors import PayloadError, Problem
from ingest.runtime.http.fields import ModelName
from ingest.runtime.http.openapi import schema
from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch

T = TypeVar("T")

_NULL = Raw(b"null")
_CUT = b"[]"


class EmbeddingRequest(msgspec.Struct, forbid_unknown_fields=True):
    """One vector."""

    embedding: Embedding
    model_name: ModelName | None = None
    metadata: Metadata | None = None
    id: VectorId | int | None = None
    dtype: Dtype | None = None


class EmbeddingsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A batch of vectors. Ids and metadata have one element for each vector."""

    embeddings: Embeddings
    model_name: ModelName | None = None
    metadata: list[Metadata | None] | None = None
    ids: (
        Annotated[
            list[VectorId | int | None],
            Meta(description="An id that occurs twice in a batch is an error (400)."),
        ]
        | None
    ) = None
    dtype: Dtype | None = None


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    """Either of the two requests, so that one pass decodes both."""

    model_name: str | None = None
    embedding: Raw | UnsetType = UNSET
    embeddings: list[Raw] | UnsetType = UNSET
    metadata: Raw = _NULL
    id: str | int | None = None
    ids: list[str | int | None] | None = None
    dtype: str | None = None


_DECODER = msgspec.json.Decoder(_Body)
_LIST: msgspec.json.Decoder[list[Raw] | None] = msgspec.json.Decoder(list[Raw] | None)
_METADATA: msgspec.json.Decoder[dict[str, Any] | None] = msgspec.json.Decoder(dict[str, Any] | None)

_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+"|-?Infinity|NaN')
"""Strings, and the numbers that JSON does not have."""
_LONGEST_ESCAPE = 6
"""Bytes that an escape of one byte takes (\\u00XX)."""
_SHORT_BYTES = 128 * 1024
_FEW_VALUES = 500
_MARKS = (b'"', b"[", b"{")
"""What the event loop may wait for: each list, object and text takes up to 25 microseconds."""
_ELEMENT = re.compile(r"/(?:embeddings|ids|metadata)/(\d+)")


def read(body: bytes, parameters: Parameters, limits: IngestSettings, now: float) -> Batch:
    """Read one vector or a batch. Errors list every wrong vector with its index."""
    try:
        decoded = _decode(body)
    except msgspec.ValidationError as error:
        return _of_answer(body, error, parameters, limits)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # Outside of vectors, they stand for missing values. As numbers beyond float32, those of
        # vectors are found and named as components that are not finite.
        plain, beyond = _without_nan(body, b"null"), _without_nan(body, b"4e38")
        if plain == body or json_vectors.problems_of_body(beyond, limits):
            raise _explain(body, error, _DECODER, limits) from error
        return read(plain, parameters, limits, now)
    except RecursionError as error:
        raise PayloadError(f"the body {checks.TOO_DEEP}") from error
    name = parameters.checked_model_name(decoded.model_name, "/model_name")
    embeddings, ids, metadata = _columns(decoded)
    checks.count(len(embeddings), limits)
    dtype = parameters.checked_dtype(decoded.dtype)
    rows, problems = json_vectors.read(embeddings, limits, dtype)
    batch = Batch(name, rows, ids)
    if metadata is not None:
        timestamps, encoded, more = _metadata(metadata, limits, now)
        batch = replace(batch, metadata=_or_none(encoded), timestamps=_or_none(timestamps))
        problems += more
    if ids is not None:
        problems += checks.ids(ids)
    if problems:
        is_one = decoded.embeddings is UNSET
        raise checks.refuse(json_vectors.in_the_singular(problems) if is_one else problems)
    return batch


def _or_none(column: list[T | None]) -> list[T | None] | None:
    """Return None for a column of None only."""
    return column if any(value is not None for value in column) else None


def _of_answer(
    body: bytes, error: msgspec.ValidationError, parameters: Parameters, limits: IngestSettings
) -> Batch:
    """Read a body that is not one of ours: an answer of an embedding API, or a mistake."""
    try:
        answer = answers.read(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as other:
        # An answer has numbers in its vectors only, where one beyond float32 is found and named.
        plain = _without_nan(body, b"4e38")
        if isinstance(other, msgspec.ValidationError) or plain == body:
            raise _located(body, other) from other
        return _of_answer(plain, error, parameters, limits)
    except RecursionError as other:
        raise PayloadError(f"the body {checks.TOO_DEEP}") from other
    if answer is None:
        raise _explain(body, error, _DECODER, limits) from error
    name = parameters.checked_model_name(answer.model_name, answer.model_place)
    checks.count(len(answer.embeddings), limits)
    dtype = parameters.checked_dtype()
    rows, problems = json_vectors.read(answer.embeddings, limits, dtype)
    problems = json_vectors.placed(problems, answer.place)
    texts = [_of_text(text, limits) for text in answer.texts or ()]
    for index, encoded in enumerate(texts):
        if (reason := checks.metadata(encoded, limits)) is not None:
            problems.append(Problem(f"/texts/{index}", reason, index))
    if problems:
        raise checks.refuse(problems)
    return Batch(name, rows, metadata=[*texts] or None)


def _of_text(text: str, limits: IngestSettings) -> bytes:
    """Encode a text as metadata. One that takes too many bytes is cut."""
    while len(encoded := msgspec.json.encode({"text": text})) > limits.max_metadata_bytes and text:
        text = text[: len(text) // 2]
    return encoded


def _without_nan(body: bytes, instead: bytes) -> bytes:
    """Replace NaN and infinities, which many encoders write but JSON does not have."""
    return _TOKENS.sub(lambda found: found[0] if found[0][:1] == b'"' else instead, body)


def _decode(body: bytes) -> _Body:
    start, end = body.find(b"["), body.rfind(b"]") + 1
    if start < 0 or end <= start or body.find(b"[", start + 1) != -1:
        return _DECODER.decode(body)
    # The body has a single list. The decoder would spend as long on finding its end as it takes to
    # read the numbers, so the list is cut out first. If the brackets belonged to something else,
    # a string say, what remains is not an empty list at this place, and the whole body is decoded.
    try:
        decoded = _DECODER.decode(b"".join((body[:start], _CUT, body[end:])))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _DECODER.decode(body)
    if decoded.embedding != Raw(_CUT):
        return _DECODER.decode(body)
    decoded.embedding = Raw(body[start:end])
    return decoded


def vector(text: Raw, limits: IngestSettings) -> NDArray[np.float32]:
    """Read the vector of a search, shape (d,).

    Raises
    ------
    PayloadError
        If it is not a valid vector.
    """
    rows, problems = json_vectors.read([text], limits)
    if problems:
        raise checks.refuse(json_vectors.in_the_singular(problems))
    row: NDArray[np.float32] = rows[0]
    return row


def decode(body: bytes, decoder: msgspec.json.Decoder[T], limits: IngestSettings) -> T:
    """Decode a body that may hold vectors.

    Raises
    ------
    PayloadError
        Listing every wrong vector, or naming the place where decoding stopped.
    """
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _explain(body, error, decoder, limits) from error
    except RecursionError as error:
        raise PayloadError(f"the body {checks.TOO_DEEP}") from error


def _explain(
    body: bytes,
    error: msgspec.DecodeError | UnicodeDecodeError,
    decoder: msgspec.json.Decoder[T],
    limits: IngestSettings,
) -> PayloadError:
    """List every unknown field or wrong vector, because decoding stopped at the first mistake."""
    beyond = _without_nan(body, b"4e38")
    problems = _unknown(body, decoder) or json_vectors.problems_of_body(beyond, limits)
    return checks.refuse(problems) if problems else _located(body, error)


def _unknown(body: bytes, decoder: msgspec.json.Decoder[Any]) -> list[Problem]:
    try:
        return spelling.unknown(list(answers.fields(body)), decoder.type.__struct_fields__)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def _located(body: bytes, error: msgspec.DecodeError | UnicodeDecodeError) -> PayloadError:
    """Say what is wrong, and where decoding stopped."""
    if not isinstance(error, msgspec.ValidationError):
        reason = checks.misspelt(body) or f"is not valid JSON: {error}"
        return PayloadError(f"the body {reason}")
    reason, _, path = str(error).partition(" - at `$")
    # Within metadata the path only says "[...]".
    pointer = re.sub(r"[.\[]", "/", path.rstrip("`").partition("[...]")[0].replace("]", ""))
    element = _ELEMENT.match(pointer)
    index = int(element[1]) if element else None
    field = pointer.strip("/").partition("/")[0]
    return checks.refuse([Problem(pointer, f"{checks.explained(reason, field):.200}", index)])


def _columns(body: _Body) -> tuple[list[Raw], list[str | None] | None, list[Raw] | None]:
    """Return embeddings, ids and metadata of either request as lists."""
    if (body.embedding is UNSET) == (body.embeddings is UNSET):
        raise PayloadError("the body needs either embedding or embeddings")
    kind = bytes(memoryview(body.metadata)[:1])
    if body.embeddings is UNSET:
        if body.ids is not None or kind == b"[":
            raise PayloadError("with embedding, give id and metadata, not lists of them")
        assert body.embedding is not UNSET
        ids: list[str | None] | None = None if body.id is None else [str(body.id)]
        return [body.embedding], ids, None if kind == b"n" else [body.metadata]
    if body.id is not None or kind == b"{":
        raise PayloadError(
            "with embeddings, give ids and metadata as lists with one element for each vector"
        )
    metadata = _elements(body.metadata)
    count = len(body.embeddings)
    for name, column in (("ids", body.ids), ("metadata", metadata)):
        if column is not None and len(column) != count:
            raise checks.refuse(
                [Problem(f"/{name}", f"has {len(column)} elements for {count} embeddings")]
            )
    texts = [None if id_ is None else str(id_) for id_ in body.ids or ()]
    return body.embeddings, _or_none(texts), metadata


def _elements(metadata: Raw) -> list[Raw] | None:
    try:
        return _LIST.decode(metadata)
    except msgspec.ValidationError as error:
        raise checks.refuse([Problem("/metadata", str(error))]) from error


def _metadata(
    texts: Sequence[Raw], limits: IngestSettings, now: float
) -> tuple[list[float | None], list[bytes | None], list[Problem]]:
    timestamps: list[float | None] = []
    encoded: list[bytes | None] = []
    problems: list[Problem] = []
    for index, text in enumerate(texts):
        item = _item(text, limits)
        if isinstance(item, str):
            problems.append(Problem(f"/metadata/{index}", item, index))
            continue
        data = None if item is None else msgspec.json.encode(item)
        encoded.append(data)
        timestamp = None
        if item is not None and "timestamp" in item:
            timestamp = checks.timestamp(item["timestamp"], now)
        if isinstance(timestamp, str):
            problems.append(Problem(f"/metadata/{index}/timestamp", timestamp, index))
        else:
            timestamps.append(timestamp)
        if data is not None and (reason := checks.metadata(data, limits)) is not None:
            problems.append(Problem(f"/metadata/{index}", reason, index))
    return timestamps, encoded, problems


def _item(text: Raw, limits: IngestSettings) -> dict[str, Any] | str | None:
    """Read the metadata of one vector, or return what is wrong with it."""
    # Decoding a very long text would be one long call that blocks other threads.
    size = memoryview(text).nbytes
    if size > _LONGEST_ESCAPE * limits.max_metadata_bytes:
        return checks.metadata_size(size, limits)
    try:
        item = _METADATA.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = str(error).partition(" - at")[0]
        return checks.misspelt(bytes(text)) or checks.explained(reason, "metadata")
    except RecursionError:
        return checks.TOO_DEEP
    return checks.TOO_DEEP if checks.is_too_deep(item) else item


def _place(body: bytes) -> Place:
    """Have short bodies of few values read in the event loop."""
    is_long = len(body) > _SHORT_BYTES or any(_has_many(body, mark) for mark in _MARKS)
    return Place.THREAD if is_long else Place.LOOP


def _has_many(body: bytes, mark: bytes) -> bool:
    # Not count(), which takes ten times as long if there are few.
    at = -1
    for _ in range(_FEW_VALUES):
        at = body.find(mark, at + 1)
        if at < 0:
            return False
    return True


FORMAT = Format(
    "application/json",
    read,
    {
        "anyOf": [
            schema(EmbeddingRequest),
            schema(EmbeddingsRequest),
            *(form.schema for form in answers.FORMS),
        ]
    },
    place=_place,
    structs=(
        EmbeddingRequest,
        EmbeddingsRequest,
        *(struct for form in answers.FORMS for struct in form.structs),
    ),
)
