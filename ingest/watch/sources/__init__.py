"""The kinds of sources that can be watched.

Start with `source.py`, the protocols of sources. `registry.py` lists the kinds. To add one, write a
module with a function `find` that returns a source, add a line to `SOURCES` in the registry, and
add a case to the contract test (`tests/ingest/watch/sources/test_contract.py`).
"""
