"""``POST /search``: finds the stored vectors that are most similar to one."""

from __future__ import annotations

import asyncio
from functools import partial

from starlette.responses import Response

from ingest.formats import json
from ingest.http import search
from ingest.http.bodies import Found, Match
from ingest.http.endpoint import IncomingRequest
from ingest.http.parser import Parser
from ingest.runtime.errors import StoreUnavailable
from ingest.runtime.http import application
from ingest.runtime.settings.settings import Settings
from ingest.store import neighbours
from ingest.store.connection import unavailable
from ingest.store.pool import AsyncPool

_SEARCH_SECONDS = 20.0


class Searches:
    """Answers searches.

    Parameters
    ----------
    pool : AsyncPool
        Connections to the store.
    parser : Parser
    settings : Settings

    Attributes
    ----------
    settings : Settings
        The current settings. May be replaced at any time.
    """

    def __init__(self, pool: AsyncPool, parser: Parser, settings: Settings) -> None:
        self.settings = settings
        self._pool = pool
        self._parser = parser

    async def answer(self, request: IncomingRequest) -> Response:
        """Find the vectors that a request asks for."""
        parse = partial(search.parse, headers=request.headers, limits=self.settings.ingest)
        wanted = await self._parser.parsed(request, parse, json.FORMAT.place(request.body))
        try:
            async with asyncio.timeout(_SEARCH_SECONDS):
                matches = await self._matches(wanted)
        except TimeoutError as error:
            raise StoreUnavailable(
                f"no vectors were found within {_SEARCH_SECONDS:.0f} s:"
                " PostgreSQL is slow, or too many requests wait"
            ) from error
        found = Found(wanted.model_name, wanted.scope, matches)
        return application.json_response(found, query=request.query)

    async def _matches(self, wanted: search.Query) -> list[Match]:
        name, vector = wanted.model_name, wanted.target
        with unavailable():
            async with self._pool.lend() as connection:
                if isinstance(vector, str | int):
                    vector = await neighbours.stored_vector(connection, name, vector)
                await neighbours.check(connection, name, len(vector))
                if wanted.scope == "baseline":
                    found = await neighbours.baseline(
                        connection, name, vector, wanted.k, wanted.filter
                    )
                else:
                    window = getattr(self.settings.monitoring.windows, wanted.scope)
                    found = await neighbours.window(
                        connection, name, vector, wanted.k, window, wanted.filter
                    )
        # Not with asdict: it copies metadata, and earlier releases stored some too deep for that.
        names = Match.__struct_fields__
        return [Match(**{name: getattr(match, name) for name in names}) for match in found]
