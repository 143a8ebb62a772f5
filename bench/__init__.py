"""Measurements: every number that the documentation quotes comes from here."""
