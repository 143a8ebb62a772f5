"""Measurements. Every number in the documentation comes from here.

``python -m bench`` runs all of them. ``results.py`` keeps the numbers that ``docs/scaling.md``
uses, ``plan.py`` computes its tables from them, and ``detection/`` measures the detector.
"""
