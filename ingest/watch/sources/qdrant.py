"""Read a collection of Qdrant, in a fixed part: its points have no order."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from hashlib import blake2b
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from qdrant_client import AsyncQdrantClient, QdrantClient
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse
from qdrant_client.models import VectorParams

from ingest.files import vectors
from ingest.runtime.errors import SettingsError, SourceUnavailable
from ingest.watch.scanner import Scanner
from ingest.watch.sources.source import Location, Row, Terms

if TYPE_CHECKING:
    from ingest.watch.target import Target

API_KEY = "QDRANT_API_KEY"
"""Environment variable with the key, if the server needs one."""

PointId = int | str | UUID

_SAMPLE = 10_000
"""About how many points are read if nothing else is said."""
_ANSWER_SECONDS = 60
_IDS = 10_000
"""Points whose ids are read at once."""
_BLOCK = 500
"""Points whose vectors are read at once."""
_POINTS = 1_000
"""Points in which the keys of the metadata are looked for."""
_NOT_FOUND = 404
_UNNAMED = ""
"""Name of the vectors without a name, where Qdrant writes one. Some clients give it, too."""


class Collection:
    """A collection of Qdrant; see :class:`ScannedTable` in `source.py`.

    Parameters
    ----------
    address : str
        Of the server, for the text that identifies the collection.
    make_client : callable
        Makes a client when the source is connected.
    name : str
    vector : str or None
        Name of the vectors; None for those without a name.
    metadata : mapping of str to str
        Keys of the stored metadata, and the paths in the payload that they are read from.
    sample : int
        About how many points to read.
    advice : sequence of str
    """

    def __init__(
        self,
        address: str,
        make_client: Callable[[], AsyncQdrantClient],
        name: str,
        vector: str | None = None,
        metadata: Mapping[str, str] = MappingProxyType({}),
        sample: int = _SAMPLE,
        advice: Sequence[str] = (),
    ) -> None:
        self._address = address
        self._make_client = make_client
        self._vector = vector
        self._metadata = metadata
        self._client: AsyncQdrantClient | None = None
        self.name = name
        self.sample = sample
        self.advice = ("every poll reads the ids of all points", *advice)

    def __str__(self) -> str:
        vector = f".{self._vector}" if self._vector else ""
        return f"{self._address}/{self.name}{vector} in samples"

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Hold a client while entered; it connects again when a connection is lost."""
        self._client = self._make_client()
        try:
            yield
        finally:
            await self._client.close()

    def follower(self, target: Target, terms: Terms) -> Scanner:
        """Return what stores the points in a target."""
        return Scanner(self, target)

    async def count(self) -> int:
        """Count the points."""
        assert self._client is not None
        with _unavailable(self.name):
            return (await self._client.count(self.name, exact=True)).count

    async def rows(self, level: int) -> AsyncGenerator[list[Row]]:
        """Read the points whose ids have a hash that is a multiple of ``2**level``."""
        assert self._client is not None
        # Qdrant can neither filter by a hash nor order by it.
        chosen = sorted([id_ async for id_ in self._ids(level)], key=_hash)
        for first in range(0, len(chosen), _BLOCK):
            ids = chosen[first : first + _BLOCK]
            with _unavailable(self.name):
                points = await self._client.retrieve(
                    self.name,
                    ids,
                    with_vectors=[self._vector] if self._vector else True,
                    with_payload=list(self._metadata.values()) if self._metadata else False,
                )
            at = {str(point.id): point for point in points}  # not in the order of the ids
            ordered = [at[str(id_)] for id_ in ids if str(id_) in at]
            yield [row for point in ordered if (row := self._row(point)) is not None]

    async def _ids(self, level: int) -> AsyncIterator[PointId]:
        assert self._client is not None
        mask = (1 << level) - 1
        offset = None
        while True:
            with _unavailable(self.name):
                points, offset = await self._client.scroll(
                    self.name, limit=_IDS, offset=offset, with_payload=False, with_vectors=False
                )
            for point in points:
                if not _hash(point.id) & mask:
                    yield point.id
            if offset is None:
                return

    def _row(self, point: Any) -> Row | None:
        vector = point.vector
        if isinstance(vector, Mapping):
            vector = vector.get(self._vector or _UNNAMED)
        elif vector is not None and self._vector is not None:
            vector = f"has a vector without a name, not one with the name {self._vector!r}"
        # A point may have none of the vectors, of which the others are no concern.
        if vector is None:
            return None
        values = {key: _at(point.payload, path) for key, path in self._metadata.items()}
        kept = {key: value for key, value in values.items() if value is not None}
        metadata = msgspec.json.encode(kept) if self._metadata else None
        read = vector if isinstance(vector, str) else vectors.read(vector)
        return Row(str(point.id), None, read, metadata)


def find(address: str, location: Location) -> Collection:
    """Find a collection.

    Parameters
    ----------
    address : str
        ``qdrant://HOST:PORT`` or ``qdrant+https://HOST:PORT``. It comes from a command line, so it
        must not contain a key.
    location : Location

    Raises
    ------
    SettingsError
        If the collection cannot be watched.
    SourceUnavailable
        If the server cannot be reached.
    """
    for option, given in (("--id", location.id), ("--time", location.time)):
        if given is not None:
            raise SettingsError(f"{option} is not for Qdrant, whose points have an id and no order")
    url = _url(address)
    options: dict[str, Any] = {
        "url": url,
        "api_key": os.environ.get(API_KEY),
        "timeout": _ANSWER_SECONDS,
        "check_compatibility": False,  # it warns, and the calls used here are old
    }
    client = QdrantClient(**options)
    try:
        vector = _chosen(client, location)
        advice = _absent(client, location)
    finally:
        client.close()
    return Collection(
        url,
        lambda: AsyncQdrantClient(**options),
        location.table,
        vector,
        location.kept,
        _SAMPLE if location.sample is None else location.sample,
        advice,
    )


def _url(address: str) -> str:
    # First, because other errors quote the address.
    if set("@?#") & set(address):
        raise SettingsError(
            f"--source has more than a host and a port, and everyone on this machine can read it;"
            f" set a key in {API_KEY}"
        )
    try:
        parts = urlsplit(address)
        port = parts.port or 6333
    except ValueError as error:
        raise SettingsError(f"--source {address}: {error}") from error
    if not parts.hostname:
        raise SettingsError("--source has no host; allowed is qdrant://HOST:PORT")
    scheme = "https" if parts.scheme.endswith("+https") else "http"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{scheme}://{host}:{port}{parts.path.rstrip('/')}"


def _chosen(client: QdrantClient, location: Location) -> str | None:
    """Return the name of the vectors to read, None for those without a name."""
    name = location.table
    try:
        with _unavailable(name):
            if not client.collection_exists(name):
                names = sorted(each.name for each in client.get_collections().collections)
                raise SettingsError(
                    f"--table {name}: there is no such collection; there are"
                    f" {', '.join(names) or 'none'}"
                )
            params = client.get_collection(name).config.params.vectors
    except SourceUnavailable as error:
        raise SourceUnavailable(f"the server with collection {name}: {error.detail}") from error
    named = {_UNNAMED: params} if isinstance(params, VectorParams) else params or {}
    dense = [each for each, found in named.items() if found.multivector_config is None]
    if not dense:
        raise SettingsError(f"collection {name} has no dense vectors; only those can be watched")
    if location.vector is None and len(dense) == 1:
        return dense[0] or None
    if location.vector is not None and location.vector in dense:
        return location.vector or None
    if dense == [_UNNAMED]:
        raise SettingsError("--column: the vectors of this collection have no name")
    wrong = "name one" if location.vector is None else f"{location.vector!r} is not one of them"
    shown = ", ".join(each or "'' (without a name)" for each in dense)
    raise SettingsError(f"--column: collection {name} has the vectors {shown}; {wrong}")


def _absent(client: QdrantClient, location: Location) -> list[str]:
    """Name the keys that none of some points has: they may be misspelt."""
    paths = list(location.kept.values())
    if not paths:
        return []
    with _unavailable(location.table):
        points, _ = client.scroll(
            location.table, limit=_POINTS, with_payload=paths or False, with_vectors=False
        )
    return [
        f"metadata: none of {len(points)} points has {path}"
        for path in paths
        if points and all(_at(point.payload, path) is None for point in points)
    ]


def _at(payload: Any, path: str) -> Any:
    """Return what a payload has at a path such as ``metadata.source``, or None."""
    for key in path.split("."):
        payload = payload.get(key) if isinstance(payload, Mapping) else None
    return payload


@contextmanager
def _unavailable(name: str) -> Iterator[None]:
    """Turn the errors of the client into ours."""
    try:
        yield
    except UnexpectedResponse as error:
        if error.status_code == _NOT_FOUND:
            raise SourceUnavailable(f"there is no collection {name}") from error
        said = " ".join(str(error).split())
        raise SourceUnavailable(f"Qdrant refused: {said:.200}") from error
    except (ApiException, OSError) as error:
        raise SourceUnavailable(f"Qdrant does not answer: {error}") from error


def _hash(id_: PointId) -> int:
    return int.from_bytes(blake2b(str(id_).encode(), digest_size=8).digest())
