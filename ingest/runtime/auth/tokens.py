"""Bearer tokens and their scopes.

A token is 32 random bytes, so guessing it from its SHA-256 is infeasible. A slow hash would cost
time at each request and add nothing.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from ingest.runtime.errors import Problem, SettingsError
from ingest.runtime.settings.document import read as read_document

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
    document = read_document(file, "server.tokens_file")
    try:
        return _TOKENS.validate_python(document.values or [])
    except ValidationError as error:
        problems = list(map(document.problem, error.errors()))
        raise SettingsError(f"{file} (server.tokens_file) is invalid:", problems) from None


def add(file: Path, name: str, scopes: Sequence[str]) -> str:
    """Make a token, append its entry to a file that only its owner can read, and return it.

    Raises
    ------
    SettingsError
        If the file, the name or a scope is invalid.
    """
    if file.exists() and any(token.name == name for token in read(file)):
        raise SettingsError(f"{file} already has a token named {name}")
    token = secrets.token_urlsafe(32)
    entry = {"name": name, "sha256": digest(token), "scopes": list(scopes)}
    try:
        _TOKENS.validate_python([entry])
    except ValidationError as error:
        reasons = [Problem(str(e["loc"][1]), e["msg"]) for e in error.errors()]
        raise SettingsError("the token cannot be made:", reasons) from None
    try:
        _append(file, yaml.safe_dump([entry], sort_keys=False).encode())
    except OSError as error:
        raise SettingsError(f"{file} cannot be written: {error.strerror}") from error
    return token


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
