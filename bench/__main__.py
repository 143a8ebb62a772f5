"""``python -m bench``: run all measurements and print their tables."""

from __future__ import annotations

import subprocess
import sys

MODULES = (
    "bench.detection",
    "bench.explanation",
    "bench.traffic",
    "bench.history",
    "bench.exact",
    "bench.program",
    "bench.scrape",
    "bench.fleet",
    "bench.footprint",
    "bench.restart",
    "bench.search",
    "bench.slices",
    "bench.ingest",
    "bench.ingest.shortcuts",
    "bench.ingest.limits",
    "bench.ingest.fitting",
    "bench.ingest.traces",
    "bench.retention",
    "bench.ingest.columns",
    "bench.backfill",
)

if __name__ == "__main__":
    # One process for each, so that none leaves caches or memory behind for the next.
    for module in MODULES:
        subprocess.run([sys.executable, "-m", module, *sys.argv[1:]], check=True)
