"""Errors as HTTP answers: problem details in JSON (RFC 9457)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.responses import Response

from ingest.runtime.errors import MonitorError
from ingest.runtime.http.fields import Count

_RETRY_AFTER_SECONDS = 2


class Place(msgspec.Struct):
    """One place in the request that is wrong."""

    pointer: Annotated[
        str,
        Meta(
            description=(
                "JSON pointer (RFC 6901) into the body, empty for the whole body; or the name of a"
                " header, query parameter or setting."
            ),
            examples=["/embeddings/3/17", "", "Idempotency-Key"],
        ),
    ]
    reason: str
    index: Annotated[Count, Meta(description="Index of the wrong vector.")] | UnsetType = UNSET


class Problem(msgspec.Struct):
    """RFC 9457 problem details."""

    type: Literal["about:blank"]
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: Annotated[str, Meta(description="What is wrong, and what is allowed.")]
    errors: (
        Annotated[
            list[Place],
            Meta(min_length=1, description="The places that are wrong; at most 100 of them."),
        ]
        | UnsetType
    ) = UNSET


def problem(error: MonitorError) -> Response:
    """Answer with an error as problem details."""
    places = [
        Place(p.pointer, p.reason, UNSET if p.index is None else p.index) for p in error.problems
    ]
    body = Problem("about:blank", error.title, error.status, error.detail, places or UNSET)
    return Response(
        msgspec.json.encode(body),
        error.status,
        headers_of(error),
        media_type="application/problem+json",
    )


def headers_of(error: MonitorError) -> dict[str, str]:
    """Return headers that tell when to send a request again, if that may help."""
    return {"Retry-After": str(_RETRY_AFTER_SECONDS)} if error.status in (429, 503) else {}
