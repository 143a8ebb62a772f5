"""Types of fields that several JSON answers share."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from ingest.runtime.model_name import MAX_LENGTH, PATTERN

Count = Annotated[int, Meta(ge=0)]
Moment = Annotated[datetime, Meta(tz=True)]
"""A time with its time zone, which is UTC in answers."""
Number = Annotated[float | None, Meta(description="null where it is not finite.")]
"""A float. msgspec writes NaN and infinities as null."""
ModelName = Annotated[
    str,
    Meta(
        # Not as constraints of msgspec: our own check explains what is allowed.
        extra_json_schema={
            "maxLength": MAX_LENGTH,
            "pattern": f"^{PATTERN}$",
            "examples": ["sentence-transformer"],
        }
    ),
]
