"""Follow a table of vectors that another program fills.

Start with `watch.py`, the half of the service that polls and reports metrics. `follower.py` reads
new rows once and stores them. `recheck.py` chooses rows to read again. `sources/` has one module
for each kind of table.
"""
