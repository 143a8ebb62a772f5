"""Ingest: accepts embeddings and stores them in PostgreSQL.

A request passes `http/`, `formats/` and `pipeline/`, and ends in `store/`, the contract with the
exporter. `watch/` follows a table instead, and `files/` reads files for `replay`. `runtime/` has
what every process needs. `cli.py` has the commands.
"""
