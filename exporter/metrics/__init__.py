"""What Prometheus scrapes: `families.py` defines each metric once, `collector.py` exposes them.

A family has its name, help, labels and the function that reads its samples from a snapshot; most
are of one of the kinds in `shapes.py`. `page.py` writes them as text, and keeps that of models that
have not changed. To add a metric, add a family; the page, the documentation and the contract tests
follow.
"""
