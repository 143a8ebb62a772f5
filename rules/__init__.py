"""Prometheus rules and their runbook, shipped as data."""
