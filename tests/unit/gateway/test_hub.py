"""Whoever follows the events is told of every change, however it falls between a read and the wait for news."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from shunter.errors import Unavailable
from shunter.gateway import hub as hub_module
from shunter.gateway.hub import Hub
from shunter.store import codec
from shunter.store.codec import Entry
from shunter.store.command import Command
from shunter.store.keys import Keys
from shunter.store.redis import AsyncStore

SOON_S = 2.0
"""Far below the heartbeat, at which a follower would look again anyway."""


class Stream(AsyncStore):
    """An event stream in memory. Ids count from 1-0; `broken` makes every command fail."""

    def __init__(self) -> None:
        self.last = 0
        self.broken = False
        self.asked_to_wait = asyncio.Event()
        self._grew = asyncio.Event()

    def add(self) -> None:
        self.last += 1
        self._grew.set()

    async def run(self, command: Command[Any]) -> Any:
        await asyncio.sleep(0)
        if self.broken:
            raise Unavailable("redis: cannot be reached")
        if command.parts[0] == "XREVRANGE":
            return f"{self.last}-0"
        assert command.parts[0] == "XREAD"
        after = int(str(command.parts[-1]).partition("-")[0])
        self.asked_to_wait.set()
        while self.last <= after:
            self._grew.clear()
            await self._grew.wait()
        return [entry(number) for number in range(after + 1, self.last + 1)]


def entry(number: int) -> Entry:
    return codec.read_entry(f"{number}-0".encode(), {b"k": b"leader", b"n": b"c1", b"v": b"1"})


async def told(news: AsyncIterator[None]) -> None:
    async with asyncio.timeout(SOON_S):
        await anext(news)


def test_what_comes_before_the_first_wait_is_told() -> None:
    async def story() -> None:
        stream = Stream()
        hub = Hub(stream, Keys("main"))
        news = hub.news()
        stream.add()  # after the follower's read, before it waits, and before the hub has a cursor
        await told(news)
        await hub.close()

    asyncio.run(story())


def test_a_second_follower_is_told_what_came_between_its_read_and_its_wait() -> None:
    async def story() -> None:
        stream = Stream()
        hub = Hub(stream, Keys("main"))
        first = hub.news()
        await told(first)
        await stream.asked_to_wait.wait()
        second = hub.news()
        stream.add()
        await told(first)  # the hub has seen it: what follows is no news any more
        await told(second)
        await hub.close()

    asyncio.run(story())


def test_everyone_is_told_every_time() -> None:
    async def story() -> None:
        stream = Stream()
        hub = Hub(stream, Keys("main"))
        followers = [hub.news() for _ in range(3)]
        for follower in followers:
            await told(follower)
        for _ in range(5):
            stream.add()
            for follower in followers:
                await told(follower)
        await hub.close()

    asyncio.run(story())


def test_while_the_store_is_away_nothing_is_lost(monkeypatch: Any) -> None:
    monkeypatch.setattr(hub_module, "RETRY_S", 0.01)

    async def story() -> None:
        stream = Stream()
        stream.broken = True
        hub = Hub(stream, Keys("main"))
        news = hub.news()
        await asyncio.sleep(0.05)
        stream.add()
        stream.broken = False
        await told(news)
        await hub.close()

    asyncio.run(story())


def test_who_hears_nothing_is_told_now_and_then_all_the_same(monkeypatch: Any) -> None:
    monkeypatch.setattr(hub_module, "HEARTBEAT_S", 0.01)

    async def story() -> None:
        stream = Stream()
        hub = Hub(stream, Keys("main"))
        news = hub.news()
        for _ in range(4):
            await told(news)
        await hub.close()

    asyncio.run(story())
