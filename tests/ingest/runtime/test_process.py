"""A process that answers messages: what it gets, and when it ends. This module is its program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import msgspec
import psutil
import pytest

from ingest.runtime.process import Process, follow_input, receive, send
from tests.service import wait_for

MODULE = "tests.ingest.runtime.test_process"


@pytest.fixture
def process() -> Iterator[Process]:
    started = Process(MODULE, GIVEN="a")
    yield started
    started.end()


def ask(process: Process, question: str, data: bytes = b"") -> tuple[object, bytes]:
    process.send(question, data)
    message, returned = process.receive()
    return msgspec.msgpack.decode(message), returned


def test_messages_and_their_bytes_are_answered_in_turn(process: Process) -> None:
    assert ask(process, "echo", b"one") == ("echo", b"one")
    assert ask(process, "echo") == ("echo", b"")
    # More than a pipe holds.
    assert ask(process, "echo", bytes(3_000_000)) == ("echo", bytes(3_000_000))


def test_what_is_printed_goes_to_stderr_and_not_between_the_answers(
    capfd: pytest.CaptureFixture[str],
) -> None:
    # Not the fixture: the process must start when stderr is captured.
    process = Process(MODULE, GIVEN="a")
    answer = ask(process, "print", b"one")
    process.end()
    assert answer == ("printed", b"one")
    assert capfd.readouterr().err == "not an answer\nnot an answer"


def test_it_knows_no_secret_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EMBEDDING_DRIFT_DATABASE_CONNECTION_STRING", "PGPASSWORD", "AWS_SECRET"):
        monkeypatch.setenv(name, "secret")
    process = Process(MODULE, GIVEN="a")
    found, _ = ask(process, "environment")
    assert isinstance(found, dict)
    assert "secret" not in found.values()
    assert (found["GIVEN"], found["PATH"]) == ("a", os.environ["PATH"])
    process.end()


def test_it_hears_no_signal_of_the_terminal_and_writes_no_core(process: Process) -> None:
    ask(process, "echo")
    assert os.getpgid(process.pid) == process.pid != os.getpgid(0)
    assert psutil.Process(process.pid).rlimit(psutil.RLIMIT_CORE) == (0, 0)


def test_signals_to_stop_the_service_do_not_end_it(process: Process) -> None:
    number, _ = ask(process, "pid")
    assert isinstance(number, int)
    for signal_ in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(number, signal_)
    assert ask(process, "echo") == ("echo", b"")


def test_an_end_is_told_as_end_of_file_and_by_its_code(process: Process) -> None:
    process.send("leave", b"")
    with pytest.raises(EOFError):
        process.receive()
    assert process.end() == 5


def test_it_can_be_ended_while_it_works_and_holds_what_it_did_not_read(process: Process) -> None:
    assert ask(process, "echo") == ("echo", b"")
    process.send("sleep", b"")
    process.send("echo", bytes(1_000))
    assert process.end() == -signal.SIGKILL


def test_what_cannot_be_sent_any_more_is_a_broken_pipe(process: Process) -> None:
    def send_for_ever() -> None:
        while True:
            process.send("echo", bytes(100_000))

    process.kill()
    with pytest.raises(BrokenPipeError):
        send_for_ever()


PROGRAM = f"""
import sys
from ingest.runtime.process import Process
process = Process({MODULE!r})
process.send("pid", b"")
print(process.receive()[0].hex(), flush=True)
process.send("sleep", b"")
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [None, signal.SIGKILL])
def test_it_ends_with_this_program_however_that_ends_and_whatever_it_does(
    number: int | None,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        pid = msgspec.msgpack.decode(bytes.fromhex(program.stdout.readline()))
        if number is None:
            program.communicate()
        else:
            program.send_signal(number)

    def has_ended() -> bool:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        return True

    wait_for(has_ended, "the end of the process")


def main() -> None:
    """Answer questions."""
    answers = follow_input()
    with suppress(EOFError):
        while True:
            message, data = receive(sys.stdin.buffer)
            match msgspec.msgpack.decode(message):
                case "environment":
                    send(answers, dict(os.environ), b"")
                case "pid":
                    send(answers, os.getpid(), b"")
                case "print":
                    # As Python does it, and as a library in C does.
                    print("not an answer", flush=True)
                    os.write(1, b"not an answer")
                    send(answers, "printed", data)
                case "leave":
                    sys.exit(5)
                case "sleep":
                    signal.pause()
                case other:
                    send(answers, other, data)


if __name__ == "__main__":
    main()
