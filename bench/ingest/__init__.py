"""Throughput and latency of ``POST /embeddings``, against the limits of its parts.

Start at ``__main__.py``; ``service.py`` starts the processes, ``wrk.py`` and ``pace.py`` load them.
"""
