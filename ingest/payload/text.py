"""JSON bodies: one vector or a batch, as numbers or base64."""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from ingest.payload import checks
from ingest.runtime.errors import PayloadError, Problem
from ingest.runtime.settings import IngestSettings
from ingest.store.batch import Batch

T = TypeVar("T")

Vector = list[float] | str
Metadata = dict[str, Any] | None


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    """Both forms, so that one pass decodes either."""

    model_name: str
    embedding: Vector | UnsetType = UNSET
    embeddings: list[Vector] | UnsetType = UNSET
    metadata: dict[str, Any] | list[Metadata] | None = None
    id: str | None = None
    ids: list[str | None] | None = None


_DECODER = msgspec.json.Decoder(_Body)
# A NUL in a string; PostgreSQL's text cannot hold one. An even number of backslashes before it
# are backslashes of the text.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

_ELEMENT = re.compile(r"/(?:embeddings|ids|metadata)/(\d+)")


def read(body: bytes, limits: IngestSettings, now: float) -> Batch:
    """Read a JSON body of either form.

    Raises
    ------
    PayloadError
        Listing every vector at fault with its index.
    """
    decoded = decode(body, _DECODER, limits)
    name = checks.model_name(decoded.model_name, "/model_name")
    embeddings, ids, metadata = _columns(decoded)
    checks.count(len(embeddings), limits)
    vectors, problems = _vectors(embeddings, limits)
    timestamps, encoded, more = _metadata(metadata, limits, now)
    problems += more + list(_id_problems(ids))
    if problems:
        raise checks.refuse(_in_the_singular(problems) if decoded.embeddings is UNSET else problems)
    return Batch(
        name,
        vectors,
        ids=ids if any(id_ is not None for id_ in ids) else None,
        metadata=encoded if any(m is not None for m in encoded) else None,
        timestamps=timestamps if any(t is not None for t in timestamps) else None,
    )


def vector(value: Vector, limits: IngestSettings) -> NDArray[np.float32]:
    """Read one vector, shape (d,), as ``POST /search`` has it.

    Raises
    ------
    PayloadError
        If it is not a vector.
    """
    vectors, problems = _vectors([value], limits)
    if problems:
        raise checks.refuse(_in_the_singular(problems))
    row: NDArray[np.float32] = vectors[0]
    return row


def decode(body: bytes, decoder: msgspec.json.Decoder[T], limits: IngestSettings) -> T:
    """Decode a body that may hold vectors.

    Raises
    ------
    PayloadError
        Listing every vector at fault, or naming the place where decoding stopped.
    """
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _explain(body, error, limits) from error
    except RecursionError as error:
        raise PayloadError("the body is nested too deeply") from error


def _explain(
    body: bytes, error: msgspec.DecodeError | UnicodeDecodeError, limits: IngestSettings
) -> PayloadError:
    """List every vector at fault; decoding stopped at the first mistake."""
    problems = _loose_problems(body, limits)
    if problems:
        return checks.refuse(problems)
    if not isinstance(error, msgspec.ValidationError):
        return PayloadError(_misspelt(body) or f"the body is not valid JSON: {error}")
    reason, _, path = str(error).partition(" - at `$")
    # Within metadata the path only says "[...]".
    pointer = re.sub(r"[.\[]", "/", path.rstrip("`").partition("[...]")[0].replace("]", ""))
    element = _ELEMENT.match(pointer)
    index = int(element[1]) if element else None
    return checks.refuse([Problem(pointer, f"{reason:.200}", index)])


def _misspelt(body: bytes) -> str | None:
    """Say what is wrong with characters, where the decoder misleads or cannot say the place."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return f"the body is not UTF-8: {error.reason} (byte {error.start})"
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return r"the body holds half a surrogate pair (\ud800 to \udfff), which is no character"
    except (ValueError, RecursionError):
        return None
    return None


def _loose_problems(body: bytes, limits: IngestSettings) -> list[Problem]:
    """Say what is wrong with the vectors of a body that could not be decoded."""
    try:
        # Python's decoder reads what many encoders write and JSON has not: NaN and Infinity.
        # As floats, numbers of any length can be told apart from booleans and compared.
        loose = json.loads(body, parse_int=float)
    except (ValueError, RecursionError):
        return []
    if not isinstance(loose, dict):
        return []
    if "embedding" in loose:
        return _in_the_singular(list(_problems([_loose_row(loose["embedding"])], limits)))
    embeddings = loose.get("embeddings")
    if not isinstance(embeddings, list):
        return []
    return list(_problems([_loose_row(embedding) for embedding in embeddings], limits))


def _loose_row(embedding: object) -> NDArray[np.float32] | str:
    if isinstance(embedding, str):
        return _row(embedding)
    if not isinstance(embedding, list):
        return f"is {checks.kind(embedding)}; must be a list of numbers or a base64 string"
    for position, value in enumerate(embedding):
        if not isinstance(value, float):
            return f"component {position} is {checks.kind(value)}; components must be numbers"
    return _row(embedding)


def _columns(body: _Body) -> tuple[list[Vector], list[str | None], list[Metadata]]:
    """Bring both forms to that of a batch."""
    if (body.embedding is UNSET) == (body.embeddings is UNSET):
        raise PayloadError("the body needs either embedding or embeddings")
    if body.embeddings is UNSET:
        if body.ids is not None or isinstance(body.metadata, list):
            raise PayloadError("with embedding, give id and metadata rather than lists of them")
        assert body.embedding is not UNSET
        return [body.embedding], [body.id], [body.metadata]
    if body.id is not None or isinstance(body.metadata, dict):
        raise PayloadError("with embeddings, give ids and metadata as lists, one element a vector")
    count = len(body.embeddings)
    for name, column in (("ids", body.ids), ("metadata", body.metadata)):
        if column is not None and len(column) != count:
            raise checks.refuse(
                [Problem(f"/{name}", f"has {len(column)} elements for {count} embeddings")]
            )
    return body.embeddings, body.ids or [None] * count, body.metadata or [None] * count


def _vectors(
    embeddings: Sequence[Vector], limits: IngestSettings
) -> tuple[NDArray[np.float32], list[Problem]]:
    rows = [_row(embedding) for embedding in embeddings]
    good = [row for row in rows if not isinstance(row, str)]
    alike = len(good) == len(rows) and all(len(row) == len(good[0]) for row in good)
    if not alike or checks.dimension(len(good[0]), limits) is not None:
        return np.empty((0, 0), np.float32), list(_problems(rows, limits))
    vectors = good[0][np.newaxis] if len(good) == 1 else np.stack(good)
    return vectors, checks.finite(vectors)


def _problems(
    rows: Sequence[NDArray[np.float32] | str], limits: IngestSettings
) -> Iterator[Problem]:
    """Name what keeps each row from being a vector of one batch; a string says so itself."""
    dimension: int | None = None
    for index, row in enumerate(rows):
        reason = row if isinstance(row, str) else checks.dimension(len(row), limits)
        if isinstance(row, str) or reason is not None:
            yield Problem(f"/embeddings/{index}", str(reason), index)
            continue
        dimension = dimension or len(row)
        if len(row) != dimension:
            reason = f"has dimension {len(row)}, those before it {dimension}"
            yield Problem(f"/embeddings/{index}", reason, index)
        else:
            yield from checks.finite(row[np.newaxis], index)


def _row(embedding: Vector) -> NDArray[np.float32] | str:
    """Read one vector, or say what is wrong with it."""
    if isinstance(embedding, str):
        try:
            data = binascii.a2b_base64(embedding, strict_mode=True)
        except ValueError as error:
            return f"is not valid base64: {error}"
        if len(data) % 4:
            return f"holds {len(data)} bytes of base64; float32 takes a multiple of 4"
        return np.frombuffer(data, "<f4")
    with np.errstate(over="ignore"):
        return np.array(embedding, np.float32)


def _metadata(
    metadata: Sequence[Metadata], limits: IngestSettings, now: float
) -> tuple[list[float | None], list[bytes | None], list[Problem]]:
    timestamps: list[float | None] = []
    encoded: list[bytes | None] = []
    problems: list[Problem] = []
    for index, item in enumerate(metadata):
        data = None if item is None else msgspec.json.encode(item)
        encoded.append(data)
        timestamp = None
        if item is not None and "timestamp" in item:
            timestamp = checks.timestamp(item["timestamp"], now)
        if isinstance(timestamp, str):
            problems.append(Problem(f"/metadata/{index}/timestamp", timestamp, index))
        else:
            timestamps.append(timestamp)
        if data is not None and (reason := _metadata_problem(data, limits)) is not None:
            problems.append(Problem(f"/metadata/{index}", reason, index))
    return timestamps, encoded, problems


def _metadata_problem(data: bytes, limits: IngestSettings) -> str | None:
    if len(data) > limits.max_metadata_bytes:
        return (
            f"takes {len(data)} bytes; at most {limits.max_metadata_bytes} are allowed"
            " (ingest.max_metadata_bytes)"
        )
    if b"\\u0000" in data and _NUL.search(data):
        return "holds the character U+0000, which PostgreSQL cannot store"
    return None


def _id_problems(ids: Sequence[str | None]) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, id_ in enumerate(ids):
        if id_ is None:
            continue
        reason = checks.vector_id(id_)
        if reason is None and id_ in seen:
            reason = f"{id_!r} comes twice in this batch"
        if reason is not None:
            yield Problem(f"/ids/{index}", reason, index)
        seen.add(id_)


def _in_the_singular(problems: Sequence[Problem]) -> list[Problem]:
    """Point into a body that has one vector: /embedding, /id, /metadata."""
    plural = {"embeddings": "embedding", "ids": "id", "metadata": "metadata"}
    singular = []
    for problem in problems:
        _, name, _, *rest = problem.pointer.split("/")
        singular.append(Problem("/".join(["", plural[name], *rest]), problem.reason))
    return singular
