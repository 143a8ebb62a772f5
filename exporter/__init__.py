"""The exporter: follows stored embeddings, measures drift, and shows it to Prometheus and people.

Read `detector/` (how one window is scored), then `monitor/` (a model in time), then `metrics/` and
`http/` (what is shown). `explain/` says what changed in a window, `stats/` has plain statistics,
and `backfill/` measures the past in files. `cli.py` has the commands.
"""

import os

# Before numpy is imported anywhere: on two busy cores, two BLAS threads wait for each other far
# longer than one thread computes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
