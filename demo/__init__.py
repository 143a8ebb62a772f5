"""One incident from end to end, with real vectors, Prometheus and Alertmanager.

Read ``__main__.py`` first. ``incident.py`` has the vectors; ``stack.py``, ``service.py`` and
``slack.py`` (a stand-in for Slack) run the programs.
"""
