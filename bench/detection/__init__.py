"""How much drift the detector finds, how often and how late it alarms, and what it costs.

Read `scenarios.py` first, which has the kinds of drift. `power.py`, `ratio.py`, `alarms.py`
and `cost.py` measure.
"""
