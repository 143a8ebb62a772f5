"""One incident from end to end: real vectors, real Prometheus and Alertmanager, no Slack."""
