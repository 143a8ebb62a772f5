"""A model in time: it follows the store, keeps windows, and judges them against a baseline.

Start at `monitor.py`, which owns the three threads: the tail (`tail.py`) feeds vectors and
baselines into each `model.py`, the examiner (`examiner.py`) runs what is too slow for a scrape, and
the explainer (`explainer.py`) says what changed in windows that drift (`drifting.py`). `rise.py`
compares recorded scores with those of a week before, `forecast.py` cosines with their past.
`fitting.py` pins baselines: `maturing.py` tells when one is due, `successor.py` judges it, and
`fit_process.py` fits its detector and assesses its vectors.
`windows.py` and `segments.py` hold the sliding windows, `verdict.py` measures one. Everything that
shows something reads a `snapshot.py`, which never changes, or a `report.py`, which `reporting.py`
makes from it for other processes and `recorded.py` from what the store has.
"""
