"""Credentials and TLS: who may do what.

Read :mod:`~ingest.runtime.auth.guard` first. :mod:`~ingest.runtime.auth.security` builds it from
the files of tokens and of the web configuration.
"""
