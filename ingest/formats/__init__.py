"""Formats of request bodies: each module reads one format and returns a validated batch.

Read :mod:`~ingest.formats.registry` first, then :mod:`~ingest.formats.raw`, the shortest format.
:mod:`~ingest.formats.checks` has the checks that all formats share. Parquet is read by a process of
its own, a :mod:`~ingest.formats.child`.
"""

from ingest.formats.registry import parse

__all__ = ["parse"]
