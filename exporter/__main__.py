"""``embedding-drift``, also ``python -m exporter``: the entry point of the program."""

from __future__ import annotations

import signal
import sys

from ingest.runtime import hangup
from ingest.runtime.importing import importing

_SERVICES = {"serve", "ingest", "exporter", "watch"}

# Before the imports, which take long. Other commands end when their terminal is closed.
if _SERVICES.intersection(sys.argv[1:2]):
    hangup.remember()

with importing():
    from exporter import cli


def main() -> None:
    """Run a command. SIGTERM ends it as Ctrl-C does, so that it closes what it opened."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cli.main(prog_name="embedding-drift")


if __name__ == "__main__":
    main()
