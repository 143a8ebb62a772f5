"""Grafana dashboards, built from the metric tables.

Read ``fleet.py`` first; ``panel.py`` and ``query.py`` are its parts. ``python -m grafana`` writes
the JSON files in ``dashboards/``.
"""
