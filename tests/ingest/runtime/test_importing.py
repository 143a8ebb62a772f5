"""A signal while modules are imported: the process ends at once, without a word."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_the_process_even_where_an_exception_would_be_lost(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "module.py").write_text(
        "import os\n"
        "try:\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        "except BaseException:\n"
        "    pass\n"
        "print('imported')\n"
    )
    program = (
        "from ingest.runtime.importing import importing\nwith importing():\n    import module\n"
    )
    done = run(tmp_path, program)
    assert (done.returncode, done.stdout, done.stderr) == (-number, "", "")


def test_afterwards_a_signal_is_an_exception_again(tmp_path: Path) -> None:
    (tmp_path / "module.py").touch()
    program = (
        "import os, signal\n"
        "from ingest.runtime.importing import importing\n"
        "with importing():\n"
        "    import module\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    assert run(tmp_path, program).stdout == "interrupted\n"


def test_a_signal_that_is_ignored_stays_so(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nprint('imported')\n"
    )
    program = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from ingest.runtime.importing import importing\n"
        "with importing():\n"
        "    import module\n"
        "print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)\n"
    )
    assert run(tmp_path, program).stdout == "imported\nTrue\n"


def run(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder), *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=240,
    )
