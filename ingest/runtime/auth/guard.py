"""The guard: authenticates clients and checks what they may do.

=========== ===================================================================
scope       allows
=========== ===================================================================
metrics     ``GET /metrics``
drift       every other GET, and ``POST /search``
write       ``POST /embeddings``, ``/v1/traces`` and ``/canaries``, for all models
write:MODEL the same for one model
admin       everything, and it alone ``POST /-/reload``
=========== ===================================================================

A user of basic authentication has the scope ``admin``, as in Prometheus. Paths that show no data
(:data:`OPEN`) need no credentials.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Callable, Collection, Mapping

import bcrypt

from ingest.runtime.auth.tokens import Token, digest
from ingest.runtime.errors import Forbidden, QueueFull, Unauthorized

OPEN = frozenset({"/-/healthy", "/-/ready", "/openapi.json"})
"""Paths that need no credentials."""

_SCOPES = {
    "/metrics": "metrics",
    "/embeddings": "write",
    "/v1/traces": "write",
    "/canaries": "write",
    "/search": "drift",
}
_CHALLENGES = {
    "basic": 'Basic realm="embedding-drift", charset="UTF-8"',
    "bearer": 'Bearer realm="embedding-drift"',
}
_EVERYTHING = frozenset({"admin"})
_MAX_PASSWORD_BYTES = 72  # bcrypt ignores further bytes
_MAX_WAITING = 8
_UNKNOWN_USER = "$2b${:02}$aaaaaaaaaaaaaaaaaaaaaO8VV6r3dYkGJmV0X5VvYdXkQmQb6h1yW"


def _matches(password: bytes, hashed: str) -> bool:
    return len(password) <= _MAX_PASSWORD_BYTES and bcrypt.checkpw(password, hashed.encode())


def _cost(hashed: str) -> int:
    return int(hashed.split("$")[2])


class Guard:
    """Checks credentials against users and tokens. Without any, every client may do everything.

    Parameters
    ----------
    users : mapping
        Bcrypt hashes by name.
    tokens : collection of Token
    check : callable
        Tells whether a password matches a hash. It may take long.

    Attributes
    ----------
    schemes : list of str
        Ways to authenticate: basic if there are users, bearer if there are tokens.
    """

    def __init__(
        self,
        users: Mapping[str, str] | None = None,
        tokens: Collection[Token] = (),
        check: Callable[[bytes, str], bool] = _matches,
    ) -> None:
        self._users = dict(users or {})
        self._tokens = tuple(tokens)
        known = {"basic": self._users, "bearer": self._tokens}
        self.schemes = tuple(scheme for scheme, credentials in known.items() if credentials)
        self._check = check
        # Checked for users that do not exist, so that the time of an answer does not reveal which
        # users exist.
        self._unknown_user = _UNKNOWN_USER.format(max(map(_cost, self._users.values()), default=0))
        self._verified: set[bytes] = set()
        # One at a time, because bcrypt is slow and wrong passwords could use every core.
        self._checking = asyncio.Lock()
        self._waiting = 0

    @property
    def challenges(self) -> list[str]:
        """Values of ``WWW-Authenticate``."""
        return [_CHALLENGES[scheme] for scheme in self.schemes]

    async def admit(self, method: str, path: str, authorization: str | None) -> frozenset[str]:
        """Return the scopes of a client.

        Parameters
        ----------
        method, path : str
        authorization : str or None
            The header.

        Raises
        ------
        Unauthorized
            If the credentials are missing or wrong.
        Forbidden
            If the credentials are valid but lack the scope.
        QueueFull
            If too many passwords wait to be checked.
        """
        if path in OPEN or not self.schemes:
            return _EVERYTHING
        scopes = await self._scopes(authorization or "")
        needed = needed_scope(method, path)
        granted = {scope.partition(":")[0] for scope in scopes}
        if granted.isdisjoint({needed, "admin"}):
            raise Forbidden(f"{method} {path} needs the scope {needed}")
        return scopes

    async def _scopes(self, authorization: str) -> frozenset[str]:
        scheme, _, credentials = authorization.partition(" ")
        scopes: frozenset[str] | None = None
        if scheme.lower() == "bearer":
            scopes = self._of_token(credentials.strip())
        elif scheme.lower() == "basic" and self._users:
            scopes = await self._of_user(credentials.strip())
        if scopes is None:
            raise Unauthorized("the request needs valid credentials")
        return scopes

    def _of_token(self, token: str) -> frozenset[str] | None:
        hashed = digest(token)
        # Compared with all tokens, so that the time reveals none of them.
        matches = [t for t in self._tokens if hmac.compare_digest(t.sha256, hashed)]
        return frozenset(matches[0].scopes) if matches else None

    async def _of_user(self, credentials: str) -> frozenset[str] | None:
        try:
            user, _, password = base64.b64decode(credentials, validate=True).partition(b":")
            name = user.decode()
        except ValueError:  # not base64 of UTF-8
            return None
        hashed = self._users.get(name, self._unknown_user)
        key = hashlib.sha256(b"\0".join((hashed.encode(), user, password))).digest()
        if key not in self._verified:
            is_right = await self._checked(password, hashed)
            if not is_right or name not in self._users:
                return None
            # Only correct ones, so there is at most one for each user.
            self._verified.add(key)
        return _EVERYTHING

    async def _checked(self, password: bytes, hashed: str) -> bool:
        # Among many wrong passwords, a correct one is told to retry instead of waiting long.
        if self._waiting >= _MAX_WAITING:
            raise QueueFull(f"{self._waiting} passwords wait to be checked")
        self._waiting += 1
        try:
            async with self._checking:
                return await asyncio.to_thread(self._check, password, hashed)
        finally:
            self._waiting -= 1


def needed_scope(method: str, path: str) -> str:
    """Return the scope that a request needs."""
    return _SCOPES.get(path, "drift" if method in ("GET", "HEAD") else "admin")


def require_write(scopes: Collection[str], model_name: str) -> None:
    """Check that these scopes allow storing vectors of a model.

    Raises
    ------
    Forbidden
        If they do not.
    """
    if {"admin", "write", f"write:{model_name}"}.isdisjoint(scopes):
        raise Forbidden(f"storing vectors of {model_name} needs the scope write:{model_name}")
