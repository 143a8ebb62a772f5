"""Descriptors of one socket in this process. Other threads open and close files at any time."""

from __future__ import annotations

import os
from contextlib import suppress

import psycopg


def name_of_socket(connection: psycopg.Connection | psycopg.AsyncConnection) -> str:
    """Return the name under which the kernel lists the socket of a connection."""
    return os.readlink(f"/proc/self/fd/{connection.fileno()}")


def count_descriptors(*names: str) -> int:
    """Count the open descriptors of the sockets with these names."""
    count = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # closed since it was listed
            count += os.readlink(f"/proc/self/fd/{descriptor}") in names
    return count
