"""Settings: their keys and defaults, where values come from, and how they are reloaded.

Read :mod:`~ingest.runtime.settings.settings` first, then
:mod:`~ingest.runtime.settings.configuration` and :mod:`~ingest.runtime.settings.reload`.
"""
