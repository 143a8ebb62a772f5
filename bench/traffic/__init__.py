"""Months of traffic in minutes: the pages of the shipped product, with drift and without.

Read `regimes.py` first, which has the kinds of traffic, then `simulation.py`, which drives the
objects of `exporter/monitor` through it. `source.py` makes vectors that never repeat, `drifts.py`
what is injected, `store.py` stands in for PostgreSQL and `pager.py` for Prometheus.
"""
