"""The guard: who asks, and what they may do.

=========== ====================================================
scope       allows
=========== ====================================================
metrics     ``GET /metrics``
drift       every other GET, and ``POST /search``
write       ``POST /embeddings`` for all models
write:MODEL ``POST /embeddings`` for one model
admin       everything
=========== ====================================================

A user of basic authentication holds ``admin``, as in Prometheus. What says nothing of the data
(:data:`OPEN`) needs no credentials.
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
"""Paths for those who have no credentials: orchestrators, and whoever writes a client."""

_SCOPES = {"/metrics": "metrics", "/embeddings": "write", "/search": "drift"}
_CHALLENGES = {
    "basic": 'Basic realm="embedding-drift", charset="UTF-8"',
    "bearer": 'Bearer realm="embedding-drift"',
}
_EVERYTHING = frozenset({"admin"})
_LONGEST_PASSWORD_BYTES = 72  # bcrypt reads no further
_MOST_WAITING = 8
_NOBODY = "$2b${:02}$aaaaaaaaaaaaaaaaaaaaaO8VV6r3dYkGJmV0X5VvYdXkQmQb6h1yW"


def _matches(password: bytes, hashed: str) -> bool:
    return len(password) <= _LONGEST_PASSWORD_BYTES and bcrypt.checkpw(password, hashed.encode())


def _cost(hashed: str) -> int:
    return int(hashed.split("$")[2])


class Guard:
    """Knows the users and tokens; without any, everyone may do everything.

    Parameters
    ----------
    users : mapping
        Names to bcrypt hashes.
    tokens : collection of Token
    check : callable
        Tells, in its time, whether a password is that of a hash.
    """

    def __init__(
        self,
        users: Mapping[str, str] | None = None,
        tokens: Collection[Token] = (),
        check: Callable[[bytes, str], bool] = _matches,
    ) -> None:
        self._users = dict(users or {})
        self._tokens = tuple(tokens)
        self._check = check
        # Checked for users that do not exist, so that the time of the answer does not tell them
        # apart.
        self._nobody = _NOBODY.format(max(map(_cost, self._users.values()), default=0))
        self._verified: set[bytes] = set()
        # bcrypt is slow by intent; one at a time, so that wrong passwords cannot take every core.
        self._checking = asyncio.Lock()
        self._waiting = 0

    @property
    def schemes(self) -> list[str]:
        """Ways to authenticate: basic for users, bearer for tokens; none when nobody has to."""
        known = {"basic": self._users, "bearer": self._tokens}
        return [scheme for scheme, holders in known.items() if holders]

    @property
    def challenges(self) -> list[str]:
        """Values of ``WWW-Authenticate``."""
        return [_CHALLENGES[scheme] for scheme in self.schemes]

    async def admit(self, method: str, path: str, authorization: str | None) -> frozenset[str]:
        """Return the scopes of whoever asks.

        Parameters
        ----------
        method, path : str
        authorization : str or None
            The header of that name.

        Raises
        ------
        Unauthorized
            If the credentials are missing or wrong.
        Forbidden
            If they are right and do not reach.
        QueueFull
            If as many passwords as may wait to be checked.
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
        # All are compared, so that the time does not tell which was near.
        matches = [t for t in self._tokens if hmac.compare_digest(t.sha256, hashed)]
        return frozenset(matches[0].scopes) if matches else None

    async def _of_user(self, credentials: str) -> frozenset[str] | None:
        try:
            user, _, password = base64.b64decode(credentials, validate=True).partition(b":")
            name = user.decode()
        except ValueError:  # neither base64, nor UTF-8 within, nor even ASCII
            return None
        hashed = self._users.get(name, self._nobody)
        key = hashlib.sha256(b"\0".join((hashed.encode(), user, password))).digest()
        if key not in self._verified:
            is_right = await self._checked(password, hashed)
            if not is_right or name not in self._users:
                return None
            # Right ones only: there is at most one a user, so this cannot grow.
            self._verified.add(key)
        return _EVERYTHING

    async def _checked(self, password: bytes, hashed: str) -> bool:
        # In a flood of wrong passwords a right one is told to come again, not left to wait.
        if self._waiting >= _MOST_WAITING:
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
