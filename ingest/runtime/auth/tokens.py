"""Bearer tokens and their scopes.

A token is 32 random bytes, so guessing it from its SHA-256 is infeasible. A slow hash would cost
time at each request and add nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import stat
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from ingest.runtime.errors import Problem, SettingsError
from ingest.runtime.settings import document as documents

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Scope = Annotated[str, StringConstraints(pattern=r"^(metrics|drift|admin|write(:\S{1,128})?)$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Token(BaseModel):
    """One entry of the file. ``sha256`` is the hash of the token in hexadecimal."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    name: Name
    sha256: Digest
    scopes: Annotated[list[Scope], "metrics, drift, write, write:MODEL or admin"]


_TOKENS = TypeAdapter(list[Token])


def digest(token: str) -> str:
    """Hash a token for the file."""
    return hashlib.sha256(token.encode()).hexdigest()


def read(file: Path) -> list[Token]:
    """Read a file of tokens.

    Raises
    ------
    SettingsError
        Names each wrong entry, never its value, because it may be a token instead of its hash.
    """
    return _tokens(documents.read(file, "server.tokens_file"), file)


def add(file: Path, name: str, scopes: Sequence[str]) -> str:
    """Make a token, add its entry to a file that only its owner can read, and return it.

    Another process that adds a token at the same time waits.

    Raises
    ------
    SettingsError
        If the file, the name or a scope is invalid, or the file has a form that cannot grow.
    """
    token = secrets.token_urlsafe(32)
    entry = {"name": name, "sha256": digest(token), "scopes": list(scopes)}
    try:
        made = _TOKENS.validate_python([entry])
    except ValidationError as error:
        reasons = [Problem(str(e["loc"][1]), e["msg"]) for e in error.errors()]
        raise SettingsError("the token cannot be made:", reasons) from None
    try:
        with _alone_in(file.resolve().parent):
            before = read(file) if file.exists() else []
            if any(each.name == name for each in before):
                raise SettingsError(f"{file} already has a token named {name}")
            _store(file, before, made)
    except OSError as error:
        raise SettingsError(f"{file} cannot be written: {error.strerror}") from error
    return token


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold a lock of a folder. The file itself may be replaced."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _tokens(document: documents.Document, file: Path) -> list[Token]:
    try:
        return _TOKENS.validate_python(document.values or [])
    except ValidationError as error:
        problems = list(map(document.problem, error.errors()))
        raise SettingsError(f"{file} (server.tokens_file) is invalid:", problems) from None


def _store(file: Path, before: list[Token], made: list[Token]) -> None:
    """Append the tokens made to a file, or write it anew where nothing can be appended."""
    held = file.read_bytes() if file.exists() else b""
    more = _entries(made, like=held)
    if _is(held + more, before + made, file):
        _append(file, more)
        return
    # Such as a list in brackets. Without comments, nothing is lost with its form.
    whole = _entries(before + made)
    if b"#" in held or not _is(whole, before + made, file):
        raise SettingsError(
            f"no entry can be appended to {file}; write its list with a line"
            " '- name: ...' for each token, not in brackets"
        )
    _replace(file.resolve(), whole)


def _entries(tokens: Sequence[Token], like: bytes = b"") -> bytes:
    """Return tokens as YAML that continues a content, indented as its list is."""
    text = documents.write([each.model_dump() for each in tokens])
    if (first := re.search(rb"^ *(?=- )", like, re.MULTILINE)) is not None:
        text = textwrap.indent(text, first[0].decode())
    ended = not like or like.endswith(b"\n")
    return (text if ended else "\n" + text).encode()


def _is(content: bytes, expected: list[Token], file: Path) -> bool:
    """Return whether a content reads as these tokens."""
    try:
        return _tokens(documents.decode(content, str(file)), file) == expected
    except SettingsError:
        return False


def _append(file: Path, entry: bytes) -> None:
    """Append all of an entry, or nothing: the rest of the file must stay readable."""
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with open(handle, "ab", buffering=0) as stream:
        before = os.fstat(handle).st_size
        try:
            while entry:
                # On a full disk, a first write may take a part.
                entry = entry[stream.write(entry) :]
        except OSError:
            stream.truncate(before)
            raise


def _replace(file: Path, content: bytes) -> None:
    """Write a file anew at once, with the owner and mode that it has."""
    now = file.stat()
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with open(handle, "wb") as stream:
            os.fchown(handle, now.st_uid, now.st_gid)
            os.fchmod(handle, stat.S_IMODE(now.st_mode))
            stream.write(content)
            stream.flush()
            os.fsync(handle)
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise
