"""Run the monitor as a child process, with short windows."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from demo import stack
from demo.incident import BASELINE_VECTORS
from ingest.runtime.settings.configuration import load
from ingest.runtime.settings.settings import ENVIRONMENT_PREFIX, Settings


@dataclass(frozen=True, slots=True)
class Service:
    """A running ``embedding-drift serve`` and its settings."""

    url: str
    settings: Settings


@contextmanager
def service(folder: Path, slack_webhook: str) -> Iterator[Service]:
    """Run the monitor on a free port, its data and log in ``folder``."""
    port = stack.free_port()
    url = f"http://127.0.0.1:{port}"
    file = folder / "config.yaml"
    configuration = {
        "database": {"data_directory": str(folder / "data")},
        "server": {"port": port},
        "monitoring": {
            "poll_interval": 0.5,
            "check_interval": 5,
            "baseline": {"vectors": BASELINE_VECTORS},
            "windows": {
                # A window holds at most half of the baseline: 1,500 vectors.
                "fast": {"seconds": 8, "min_vectors": 100},
                "slow": {"seconds": 24, "min_vectors": 300},
            },
        },
        # The descriptions are public: the pages may show them.
        "explanation": {"texts": "full"},
        "alerting": {"slack_webhook": slack_webhook, "exporter_url": url},
    }
    file.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    # Do not pass settings of the user's environment to the demo.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ENVIRONMENT_PREFIX)}
    command = [sys.executable, "-m", "exporter", "serve", "--config", str(file)]
    log = folder / "service.log"
    with stack.child(command, log, environment) as process:
        stack.wait_ready(f"{url}/-/ready", process, log)
        yield Service(url, load(file))
