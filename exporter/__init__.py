"""The heavy half: reads windows of embeddings, measures drift, exposes it to Prometheus."""

import os

# Before numpy is imported anywhere: two BLAS threads on two busy cores wait for each
# other far longer than one thread computes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
