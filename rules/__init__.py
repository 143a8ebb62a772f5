"""Prometheus rules, their runbook, and the program that renders them.

Read ``drift.rules.yaml`` first. ``render.py`` writes the thresholds and links of the configuration.
"""
