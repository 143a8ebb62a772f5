"""History from files: measures the past of a model in a data lake, on a Dask cluster.

Start at `backfill.py`. `dataset.py` reads the vectors of one model (with `ingest.files`),
`timeline.py` orders them by time, `plan.py` says which vectors each window holds, and `replay.py`
measures them with the exporter's own windows. `cluster.py` distributes that work; `sorting.py`
sorts files that are not in the order of time.
"""
