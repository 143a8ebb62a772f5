"""What every process needs: settings, credentials, HTTP, errors and logs.

Read :mod:`~ingest.runtime.errors` and :mod:`~ingest.runtime.settings.settings` first, then
:mod:`~ingest.runtime.http.application`, which puts a service together.
"""
