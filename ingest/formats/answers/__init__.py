"""Answers of embedding APIs, which are stored as they are: one module for each form.

Read :mod:`~ingest.formats.answers.registry` first, then :mod:`~ingest.formats.answers.ollama`, the
shortest form. :mod:`~ingest.formats.answers.answer` is what each form comes down to.
"""
