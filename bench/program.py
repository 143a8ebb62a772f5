"""What a plain install weighs, and what the shortest command costs.

An interpreter that does nothing is the peer.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from bench.results import report

_LOCK = Path(__file__).parent.parent / "requirements.lock"
_LARGEST = 5


def start(quick: bool) -> None:
    """Measure the processor time and the memory of processes, one after the other."""
    commands = {
        "embedding-drift --help": ("-m", "exporter", "--help"),
        "python -c pass": ("-c", "pass"),
    }
    runs = [
        {name: _cost(arguments) for name, arguments in commands.items()}
        for _ in range(2 if quick else 15)
    ]
    rows = [
        (
            name,
            round(statistics.median(run[name][0] for run in runs), 3),
            round(statistics.median(run[name][1] for run in runs)),
        )
        for name in commands
    ]
    report("program", "start", "Start", ("command", "CPU seconds", "peak MB"), rows, quick)


def _cost(arguments: tuple[str, ...]) -> tuple[float, float]:
    """Run Python, and return its seconds of processor time and its largest size in MB."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1_024 / 1e6


def install(quick: bool) -> None:
    """Measure the files of the packages that a plain install has."""
    names = re.findall(r"^([\w.-]+)==", _LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    sizes = {name: found for name in names if (found := _size(name))}
    largest = sorted(sizes, key=lambda name: -sizes[name])[:_LARGEST]
    rows = [("all", round(sum(sizes.values()))), *((name, round(sizes[name])) for name in largest)]
    report("program", "install", "A plain install", ("package", "MB"), rows, quick)


def _size(name: str) -> float:
    """Return the MB of a package with its compiled modules; 0 if this platform has none."""
    try:
        files = distribution(name).files or []
    except PackageNotFoundError:
        return 0
    paths = {Path(str(file.locate())) for file in files}
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def main(quick: bool) -> None:
    """Measure and print."""
    start(quick)
    install(quick)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
