"""JSON bodies of this half: one definition that is read or written, and described in OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ingest.formats.fields import Embedding, Metadata, VectorId
from ingest.runtime.http.fields import Count, ModelName, Moment

MAX_MATCHES = 1_000
"""Matches that one search may return."""

Scope = Annotated[
    Literal["fast", "slow", "baseline"],
    Meta(
        description=(
            "Where to search: in the newest vectors of a window's length, or in the baseline."
        )
    ),
]


class Stored(msgspec.Struct):
    """Counts of the vectors of a request, once they are committed.

    The sum of `stored`, `duplicates` and `sampled_out` is the number of vectors in the request.
    """

    model_name: ModelName
    stored: Annotated[Count, Meta(description="Vectors stored now.")]
    revisions: Annotated[
        Count,
        Meta(description="How many of `stored` revise an earlier vector, of the same id."),
    ]
    duplicates: Annotated[
        Count,
        Meta(
            description=(
                "Vectors not stored, because the newest vector of their id is the same. With"
                " `ingest.ids: once`, because their id was stored before."
            )
        ),
    ]
    sampled_out: Annotated[Count, Meta(description="Vectors left out by `ingest.sample_ratio`.")]


Distance = Annotated[float, Meta(ge=0, le=2)]


class StoredCanaries(msgspec.Struct):
    """What became of a set of canaries, once it is committed."""

    model_name: ModelName
    set: Annotated[str, Meta(description="Name of the set, from the ids.")]
    canaries: Annotated[Count, Meta(description="Vectors of the set.")]
    reference: Annotated[
        bool, Meta(description="Whether this is the set that later ones are compared with.")
    ]
    median_distance: Annotated[
        Distance, Meta(description="Median of 1 - cosine between each canary and the reference.")
    ]
    max_distance: Annotated[Distance, Meta(description="Largest of these.")]


class Search(msgspec.Struct, forbid_unknown_fields=True):
    """A search by a vector, which must not be all zeros, or by a stored one: its id or its seq."""

    model_name: ModelName
    embedding: Embedding | UnsetType = UNSET
    id: VectorId | int | None = None
    seq: (
        Annotated[int, Meta(ge=1, le=2**63 - 1, description="Number of a vector within its model.")]
        | None
    ) = None
    k: Annotated[int, Meta(ge=1, le=MAX_MATCHES, description="How many vectors to find.")] = 10
    scope: Scope = "slow"
    filter: (
        Annotated[
            dict[str, Any],
            Meta(
                description="Finds only vectors whose metadata has all of this: keys with these"
                " values, lists with these elements."
            ),
        ]
        | None
    ) = None


class Match(msgspec.Struct):
    """A stored vector and how similar it is."""

    seq: Annotated[Count, Meta(description="Number of the vector within its model.")]
    id: VectorId | None
    received_at: Moment
    embedded_at: Moment | None
    metadata: Metadata | None
    similarity: Annotated[
        Annotated[float, Meta(ge=-1, le=1)] | None,
        Meta(
            description=(
                "Cosine similarity. null where a vector is all zeros, or so long that the square"
                " of its length exceeds float32."
            )
        ),
    ]


class Found(msgspec.Struct):
    """The most similar vectors, the nearest first."""

    model_name: ModelName
    scope: Scope
    matches: Annotated[list[Match], Meta(max_length=MAX_MATCHES)]
