"""A screenshot of the page of a model, made by Chromium while the demo runs."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import httpx2

MAP_WITHIN = 240.0
SIZE = "1000,1470"
"""Width and height, in pixels."""


def take(page: str, explained_at: datetime, file: Path) -> None:
    """Write a screenshot of what the page of a model said when its drift was explained.

    Later, the windows of the demo hold too few vectors.

    Parameters
    ----------
    page : str
        URL of the page.
    explained_at : datetime
    file : Path

    Raises
    ------
    click.ClickException
        If there is no map within a minute, or Chromium fails.
    """
    then = f"{page}?range=1h&at={explained_at.astimezone(UTC) + timedelta(seconds=1):%FT%TZ}"
    deadline = time.monotonic() + MAP_WITHIN
    while "Map of the" not in httpx2.get(then, headers={"Accept": "text/html"}, timeout=60).text:
        if time.monotonic() > deadline:
            raise click.ClickException(f"no map on {then} within {MAP_WITHIN:g} s")
        time.sleep(0.5)
    chromium = shutil.which("chromium")
    if chromium is None:
        raise click.ClickException("a screenshot needs Chromium: run make tools")
    with tempfile.TemporaryDirectory(prefix="chromium-") as profile:
        done = subprocess.run(  # noqa: S603 - a fixed command
            [
                chromium,
                *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *("--disable-background-networking", "--no-first-run"),
                *(f"--user-data-dir={profile}", f"--window-size={SIZE}"),
                *(f"--screenshot={file.resolve()}", then),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    if done.returncode != 0 or not file.exists():
        raise click.ClickException(f"Chromium took no screenshot of {then}: {done.stderr[-500:]}")
