"""Traces by OTLP/HTTP: spans in either encoding, and the vectors that they carry.

Read :mod:`~ingest.otlp.openinference` first: it turns spans into batches. Spans come from
:mod:`~ingest.otlp.protobuf` or :mod:`~ingest.otlp.json`, and :mod:`~ingest.otlp.answers` answers in
the encoding of the request.
"""
