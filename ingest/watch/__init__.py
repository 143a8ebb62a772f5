"""Follow vectors that another program keeps or sends.

Start with `watch.py`, the half of the service that polls and reports metrics. `sources/` has one
module for each kind of source. What stores the vectors depends on the source: `follower.py` follows
a table in order, with `recheck.py` to read rows again; `scanner.py` reads a fixed part of a table
without an order; `consumer.py` reads a queue. They store through `target.py`.
"""
