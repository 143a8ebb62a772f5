"""The ingest half over HTTP: vectors, traces, canaries, and searches.

Read :mod:`~ingest.http.app` first. A request passes :mod:`~ingest.http.endpoint`, which reads its
body with :mod:`~ingest.http.body_reader`.
"""
