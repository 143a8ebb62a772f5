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
USUAL = (EMBEDDING, "embeddings", "vector", "vectors", "values", "dense", "emb", "train")
"""Names of columns of vectors, in lower case. The last one is that of the benchmarks in HDF5, whose
files hold queries, too."""
