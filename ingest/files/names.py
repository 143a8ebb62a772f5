"""Names of columns that are found without an option."""

from __future__ import annotations

EMBEDDING, ID, TIMESTAMP, TEXT, MODEL, METADATA = (
    "embedding",
    "id",
    "timestamp",
    "text",
    "model_name",
    "metadata",
)
