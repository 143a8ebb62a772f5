"""HTTP for all processes: the server, the application, its common endpoints, and OpenAPI.

Read :mod:`~ingest.runtime.http.application` first: it builds the application from its halves.
"""
