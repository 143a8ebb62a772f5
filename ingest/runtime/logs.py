"""Structured logs on standard error, as logfmt or JSON."""

from __future__ import annotations

import logging

import structlog
from structlog.typing import EventDict, WrappedLogger

from ingest.runtime.settings.settings import LogSettings
from ingest.runtime.throttle import LogThrottle

_KEYS = ["ts", "level", "logger", "msg"]

# Control characters, and those that start a line elsewhere. A line's end is left to the renderer.
_ESCAPES = {
    code: rf"\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code != ord("\n")
} | {code: rf"\u{code:04x}" for code in (0x2028, 0x2029)}

# Kept when a reload configures the logs again, so that it goes on counting.
_throttle = LogThrottle()


def configure(settings: LogSettings) -> None:
    """Write every record of the process, ours and the libraries', in one format.

    Fields given as ``extra={...}`` become keys of the line.
    """
    rename = structlog.processors.EventRenamer("msg")
    renderers = (
        [structlog.processors.JSONRenderer()]
        if settings.format == "json"
        else [_escaped, structlog.processors.LogfmtRenderer(key_order=_KEYS, drop_missing=True)]
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
            *renderers,
        ],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.level.upper())
    # Otherwise Python writes warnings to standard error in another format.
    logging.captureWarnings(True)
    leave_out_steps("httpx2", "uvicorn.error", "psycopg.pool")
    # Its warnings are of what else fails while an error or Ctrl-C ends a transaction. The first
    # error is raised.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    # uvicorn warns of each request that it cannot parse, the pool of each attempt to connect. A
    # client or an outage could fill the disk.
    for name in ("uvicorn.error", "psycopg.pool"):
        logging.getLogger(name).addFilter(_throttle)


def leave_out_steps(*loggers: str) -> None:
    """Leave out what loggers tell of every step, at level "info"."""
    for name in loggers:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


def _escaped(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Escape what could pass for another line or move a terminal's cursor."""
    return {
        key: value if value is None or isinstance(value, bool) else str(value).translate(_ESCAPES)
        for key, value in event.items()
    }
