"""The throttle: each warning once a minute."""

from __future__ import annotations

import logging
from logging.handlers import BufferingHandler

from ingest.runtime.throttle import LogThrottle


def test_a_warning_passes_once_a_minute_with_the_number_left_out() -> None:
    times = iter([0.0, 1.0, 59.0, 60.0, 61.0, 61.0])
    logger, heard = logging.Logger("uvicorn.error"), BufferingHandler(100)
    logger.addHandler(heard)
    logger.addFilter(LogThrottle(times.__next__))
    for _ in range(5):
        logger.warning("invalid")
    logger.warning("another")
    for _ in range(2):
        logger.error("failed")
    said = [(record.msg, getattr(record, "left_out", None)) for record in heard.buffer]
    assert said == [
        ("invalid", None),
        ("invalid", 2),
        ("another", None),
        ("failed", None),
        ("failed", None),
    ]
