"""Vectors in spans, by the OpenInference convention.

An embedding span has the attributes ``embedding.model_name`` and, for each text N,
``embedding.embeddings.N.embedding.vector`` and, if it is known, ``.text``. These decide, and not
the kind of the span: an SDK that drops attributes may have dropped it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from ingest.formats import checks
from ingest.otlp.spans import MOST_SPANS, Attribute, Span, too_many
from ingest.runtime.errors import PayloadError, Problem
from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch

MODEL_NAME = "embedding.model_name"
_EMBEDDING = re.compile(r"(embedding\.embeddings\.[0-9]{1,9}\.embedding)\.(vector|text)")
_ID = re.compile("(?!0+$)[0-9a-f]+")
_TRACE_ID_LENGTH, _SPAN_ID_LENGTH = 32, 16
_HIDDEN = "__REDACTED__"
"""What an instrumentation writes in place of a vector or text that it was told to hide."""


@dataclass(slots=True)
class Export:
    """What the spans of a request hold.

    Attributes
    ----------
    batches : list of (Batch, int)
        Vectors by model and dimension, and of how many spans they are.
    refused : list of PayloadError
        One for each span that cannot be stored.
    without_vectors : int
        Spans that carry no vectors.
    cut : int
        Spans with vectors whose SDK dropped attributes, so that vectors or texts may be missing.
    """

    batches: list[tuple[Batch, int]] = field(default_factory=list)
    refused: list[PayloadError] = field(default_factory=list)
    without_vectors: int = 0
    cut: int = 0

    @property
    def spans(self) -> int:
        """Number of all spans."""
        return sum(n for _, n in self.batches) + len(self.refused) + self.without_vectors


@dataclass(slots=True)
class _Rows:
    """Vectors of one span, or of all spans of one model and dimension."""

    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    ids: list[str | None] = field(default_factory=list)
    metadata: list[bytes | None] = field(default_factory=list)
    timestamps: list[float | None] = field(default_factory=list)
    spans: int = 1

    def __iadd__(self, other: _Rows) -> _Rows:
        self.vectors += other.vectors
        self.ids += other.ids
        self.metadata += other.metadata
        self.timestamps += other.timestamps
        self.spans += other.spans
        return self

    def batch(self, model_name: str) -> Batch:
        vectors = np.stack(self.vectors)
        return Batch(model_name, vectors, self.ids, self.metadata, self.timestamps)


def read(spans: Iterable[Span], limits: IngestSettings, now: float) -> Export:
    """Collect the vectors of spans.

    The id of a vector is made of trace, span and N, so that a span sent twice is a duplicate. Its
    time is the end of the span. Its metadata is the text, and the attributes that
    `ingest.trace_attributes` names, as far as they can be stored.

    Parameters
    ----------
    spans : iterable of Span
    limits : IngestSettings
    now : float
        Seconds since the epoch. Spans may end at most a day later.

    Raises
    ------
    BodyTooLarge
        If there are more spans or vectors than one request may have.
    """
    export = Export()
    groups: dict[tuple[str, int], _Rows] = {}
    count = 0
    for number, span in enumerate(spans, start=1):
        if number > MOST_SPANS:
            raise too_many()
        found = _found(span)
        if not found:
            export.without_vectors += 1
            continue
        export.cut += span.dropped > 0
        count += len(found)
        checks.count(count, limits)
        try:
            name, rows = _checked(span, found, limits, now)
        except PayloadError as error:
            export.refused.append(error)
            continue
        group = (name, len(rows.vectors[0]))
        if group in groups:
            groups[group] += rows
        else:
            groups[group] = rows
    export.batches = [(rows.batch(name), rows.spans) for (name, _), rows in groups.items()]
    return export


def _found(span: Span) -> dict[str, dict[str, Attribute]]:
    """Return vector and text of each embedding that has a vector, by the start of their names."""
    found: dict[str, dict[str, Attribute]] = {}
    for name, value in span.attributes.items():
        if (match := _EMBEDDING.fullmatch(name)) is not None:
            found.setdefault(match[1], {})[match[2]] = value
    return {
        start: parts
        for start, parts in found.items()
        if "vector" in parts and parts["vector"].text() != _HIDDEN
    }


def _checked(
    span: Span, found: Mapping[str, Mapping[str, Attribute]], limits: IngestSettings, now: float
) -> tuple[str, _Rows]:
    """Read the vectors of a span, and the name of their model.

    Raises
    ------
    PayloadError
        If anything about the span is wrong. All of its vectors are refused then.
    """
    place = f"span {span.trace_id:.40}-{span.span_id:.40}"
    for kind, id_, length in (
        ("trace", span.trace_id, _TRACE_ID_LENGTH),
        ("span", span.span_id, _SPAN_ID_LENGTH),
    ):
        if len(id_) != length or not _ID.fullmatch(id_):
            reason = f"its {kind} id must be {length} hexadecimal digits, not all of them 0"
            raise checks.refuse([Problem(place, reason)])
    name = _model_name(span, place)
    if isinstance(span.end, str):
        written = f"{span.end!r:.40}"
        reason = f"its endTimeUnixNano is {written}; it must be an unsigned integer of 64 bits"
        raise checks.refuse([Problem(place, reason)])
    timestamp = None if span.end == 0 else checks.timestamp(span.end / 1e9, now)
    if isinstance(timestamp, str):
        raise checks.refuse([Problem(place, f"its end {timestamp}")])
    attributes = _chosen(span, limits)
    rows, problems = _Rows(), []
    for start, parts in found.items():
        vector = _vector(parts["vector"], limits)
        if isinstance(vector, str):
            problems.append(Problem(f"{place} {start}.vector", vector))
            continue
        if rows.vectors and len(vector) != len(rows.vectors[0]):
            reason = f"has dimension {len(vector)}, those before it {len(rows.vectors[0])}"
            problems.append(Problem(f"{place} {start}.vector", reason))
            continue
        number = start.split(".")[2]
        rows.vectors.append(vector)
        rows.ids.append(f"{span.trace_id}-{span.span_id}-{number}")
        rows.metadata.append(_metadata(parts.get("text"), attributes, limits))
        rows.timestamps.append(timestamp)
    if problems:
        raise checks.refuse(problems)
    return name, rows


def _model_name(span: Span, place: str) -> str:
    value = span.attributes.get(MODEL_NAME)
    name = None if value is None else value.text()
    if name is not None:
        return checks.model_name(name, f"{place} {MODEL_NAME}")
    raise checks.refuse([Problem(place, f"has vectors, but no text {MODEL_NAME}")])


def _vector(value: Attribute, limits: IngestSettings) -> NDArray[np.float32] | str:
    """Read a vector, or return what is wrong with it."""
    try:
        vector = value.vector(limits)
    except ValueError as error:
        return str(error)
    return vector if np.isfinite(vector).all() else checks.NOT_FINITE


def _chosen(span: Span, limits: IngestSettings) -> dict[str, object]:
    """Return the attributes that become metadata. Those of the span precede the resource's.

    One that cannot be stored is left out: it is worth less than the vectors.
    """
    chosen: dict[str, object] = {}
    for name in limits.trace_attributes:
        value = span.attributes.get(name, span.resource.get(name))
        try:
            plain = None if value is None else value.plain()
        except ValueError:
            continue
        if plain is not None and _encoded({**chosen, name: plain}, limits) is not None:
            chosen[name] = plain
    return chosen


def _metadata(
    text: Attribute | None, attributes: Mapping[str, object], limits: IngestSettings
) -> bytes | None:
    """Encode the metadata of a vector. A text that takes too many bytes is cut."""
    shown = "" if text is None else text.text() or ""
    if shown == _HIDDEN:
        shown = ""
    # A character takes a byte at least.
    shown = shown[: limits.max_metadata_bytes]
    while shown:
        encoded = _encoded({**attributes, "text": shown}, limits)
        if encoded is not None:
            return encoded
        shown = shown[: len(shown) // 2]
    return _encoded(attributes, limits) if attributes else None


def _encoded(metadata: Mapping[str, object], limits: IngestSettings) -> bytes | None:
    """Encode metadata, in which U+FFFD replaces U+0000. None if it cannot be stored."""
    encoded = msgspec.json.encode(metadata)
    if checks.metadata_size(len(encoded), limits) is not None:
        return None  # before anything that takes longer
    encoded = checks.without_nul(encoded)
    return encoded if checks.metadata(encoded, limits) is None else None
