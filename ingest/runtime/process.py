"""Another process of this program, which answers messages on its input.

It is for work that could harm this process, or delay it. It gets no secrets, and it ends when its
input does, which the kernel closes however this process ends.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from typing import IO

import msgspec

_LENGTHS = struct.Struct("<QQ")
_VARIABLES = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TZ")
"""All of the environment that a process has a use for. The rest may hold secrets."""


class Process:
    """A module that runs as a program, with what it is sent and what it answers.

    Parameters
    ----------
    module : str
        Calls :func:`follow_input` first, and answers on the stream that it returns.
    variables : str
        Variables of its environment.

    Attributes
    ----------
    pid : int
    """

    def __init__(self, module: str, **variables: str) -> None:
        kept = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
        common = {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
        self._popen = subprocess.Popen(
            # Not from the current folder, where anything may lie.
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=kept | common | variables,
            # Ctrl-C is for the service, also while the process still imports.
            process_group=0,
        )
        self.pid = self._popen.pid

    def send(self, message: object, data: bytes | memoryview) -> None:
        """Send a message, and bytes that belong to it.

        Raises
        ------
        BrokenPipeError
            If the process has ended.
        """
        send(_open(self._popen.stdin), message, data)

    def receive(self) -> tuple[bytes, bytes]:
        """Return the next message, encoded, and its bytes.

        Raises
        ------
        EOFError
            If the process has ended.
        """
        return receive(_open(self._popen.stdout))

    def kill(self) -> None:
        """Kill the process; any thread may."""
        self._popen.kill()

    def end(self) -> int:
        """End the process, whatever it does, and return its code; of a signal, the negative."""
        self._popen.kill()
        for stream in (self._popen.stdin, self._popen.stdout):
            # What a buffer still holds cannot be written anymore.
            with suppress(BrokenPipeError):
                _open(stream).close()
        return self._popen.wait()


def send(stream: IO[bytes], message: object, data: bytes | memoryview) -> None:
    """Write a message, and bytes that belong to it."""
    encoded = msgspec.msgpack.encode(message)
    stream.write(_LENGTHS.pack(len(encoded), len(data)))
    stream.write(encoded)
    stream.write(data)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[bytes, bytes]:
    """Read what :func:`send` wrote.

    Raises
    ------
    EOFError
        If the other process has ended.
    """
    message, data = _LENGTHS.unpack(_exactly(stream, _LENGTHS.size))
    return _exactly(stream, message), _exactly(stream, data)


def follow_input() -> IO[bytes]:
    """Let this process end with its input, also while it works, and not with the service's signals.

    After these, the service waits for the work under way, or kills this process.

    Returns
    -------
    IO[bytes]
        The stream for answers. What libraries print goes to stderr, because it would damage them.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # A core would hold what clients sent.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_end_with_input, daemon=True).start()
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # The stream must not close before the process has ended: the service then kills the process,
    # and would not learn its exit code.
    return os.fdopen(answers, "wb", closefd=False)


def _end_with_input() -> None:
    end = select.poll()
    end.register(sys.stdin, 0)
    end.poll()
    os._exit(0)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    found = stream.read(size)
    if len(found) < size:
        raise EOFError
    return found


def _open(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
