"""Kubernetes manifests, and the programs that write the generated ones.

Read ``README.md`` and ``base/`` first. ``python -m k8s`` converts the rules and the Alertmanager
configuration for the Prometheus Operator and renders ``embedding-drift.yaml``.
"""
