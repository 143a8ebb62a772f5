"""Kubernetes manifests, and the programs that write the generated ones.

Read ``README.md`` and ``chart/`` first: the Helm chart is the source of everything else.
``python -m k8s`` writes the chart's generated files (thresholds, routing, the schema and the table
of its values), and renders it with the values of each overlay.
"""
