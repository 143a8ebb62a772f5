"""Alertmanager's configuration and the template of its Slack messages, shipped as data.

Read ``alertmanager.yml`` first. ``rules/render.py`` writes both files from the configuration.
"""
