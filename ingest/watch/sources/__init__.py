"""The kinds of tables that can be watched.

Start with `source.py`, the protocol that every kind implements. `registry.py` lists the kinds. To
add one, write a module that implements the protocol, add a line to `SOURCES` in the registry, and
add a case to the contract test (`tests/ingest/watch/sources/test_contract.py`).
"""
