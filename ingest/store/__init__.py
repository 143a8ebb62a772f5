"""The PostgreSQL store, which both halves of the service share.

`migrations/` defines the tables and explains them: read it first. `connection.py` and `pool.py`
connect. `vectors.py` stores batches of vectors, and `changes.py` reads what was stored since.
`baselines.py` keeps baselines, `history.py` stores measured drift, and `neighbours.py` searches.
`embedded.py` decides when the embedded server runs, and `postgresql.py` runs it.
"""
