"""Types of fields that several JSON answers share."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta

from ingest.runtime.model_name import MAX_LENGTH, PATTERN

Count = Annotated[int, Meta(ge=0)]
Moment = Annotated[datetime, Meta(tz=True)]
"""A time with its time zone, which is UTC in answers."""
Number = Annotated[float | None, Meta(description="null where it is not finite.")]
"""A float. msgspec writes NaN and infinities as null."""
MODEL_NAME: dict[str, Any] = {
    "maxLength": MAX_LENGTH,
    "pattern": f"^{PATTERN}$",
    "examples": ["sentence-transformer"],
}
"""What JSON Schema says of the name of a model, besides its type."""
# Not as constraints of msgspec: our own check explains what is allowed.
ModelName = Annotated[str, Meta(extra_json_schema=MODEL_NAME)]
