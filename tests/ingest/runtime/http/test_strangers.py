"""Strangers: how many are open, and which must go."""

from __future__ import annotations

import asyncio

import pytest

from ingest.runtime.http.strangers import Strangers


async def stays() -> None:
    await asyncio.sleep(60)


async def is_admitted() -> None:
    await asyncio.sleep(0.05)


async def seconds_until_room(strangers: Strangers) -> float:
    loop = asyncio.get_running_loop()
    start = loop.time()
    await strangers.room()
    return loop.time() - start


def test_one_more_waits_until_another_is_admitted() -> None:
    async def main() -> float:
        strangers = Strangers(2, grace=60)
        strangers.add(stays())
        strangers.add(is_admitted())
        return await seconds_until_room(strangers)

    assert asyncio.run(main()) == pytest.approx(0.05, abs=0.04)


def test_the_oldest_goes_when_it_had_its_time_and_only_then() -> None:
    async def main() -> None:
        strangers = Strangers(2, grace=0.1)
        ended: list[str] = []

        async def named(name: str) -> None:
            try:
                await stays()
            finally:
                ended.append(name)

        strangers.add(named("first"))
        strangers.add(named("second"))
        assert await seconds_until_room(strangers) >= 0.1
        await asyncio.sleep(0)
        assert ended == ["first"]
        strangers.add(named("third"))
        await asyncio.sleep(0.2)
        assert ended == ["first"]  # nobody waits

    asyncio.run(main())
