"""Grafana dashboards, built from the metric tables: ``python -m grafana`` writes them."""
