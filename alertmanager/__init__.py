"""Alertmanager's configuration and its Slack template, shipped as data."""
