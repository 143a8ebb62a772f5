"""Storing vectors without HTTP: sampling, group commit, maintenance and metrics.

Read :mod:`~ingest.pipeline.pipeline` first: it puts the others together.
"""
