"""However many follow the events, an entry is rendered once, and few of them are served at the same time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shunter.gateway import feed as feed_module
from shunter.gateway.feed import Batch, Feed
from shunter.store import codec
from shunter.store.codec import Entry
from shunter.store.command import Command
from shunter.store.keys import Keys
from shunter.store.redis import AsyncStore


class Past(AsyncStore):
    """A stream of *size* entries, with ids from 1-0, that answers with *delay_s*."""

    def __init__(self, size: int, delay_s: float = 0.0) -> None:
        self.entries = [entry(number) for number in range(1, size + 1)]
        self.delay_s = delay_s
        self.now = 0
        self.most = 0

    async def run(self, command: Command[Any]) -> Any:
        assert command.parts[:2] == ("XREAD", "COUNT")
        count, after = int(str(command.parts[2])), int(str(command.parts[-1]).partition("-")[0])
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self.delay_s)
        self.now -= 1
        return self.entries[after : after + count]


def entry(number: int) -> Entry:
    return codec.read_entry(f"{number}-0".encode(), {b"k": b"leader", b"n": b"c1", b"v": b"1"})


async def all_of(feed: Feed, jobs: frozenset[int] = frozenset()) -> bytes:
    found, after, more = b"", "0", True
    while more:
        frames, after, more = await feed.batch(after, jobs)
        found += frames
    return found


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the entries that were rendered."""
    ids: list[str] = []
    plain = feed_module.view_event

    def counted(one: Entry) -> Any:
        ids.append(one.id)
        return plain(one)

    monkeypatch.setattr(feed_module, "view_event", counted)
    return ids


def test_followers_from_the_beginning_render_each_entry_once(rendered: list[str]) -> None:
    async def story() -> list[bytes]:
        feed = Feed(Past(1_200), Keys("main"))
        return await asyncio.gather(*(all_of(feed) for _ in range(20)))

    found = asyncio.run(story())
    assert len(rendered) == 1_200
    assert set(found) == {found[0]}
    frames = found[0].split(b"\r\n\r\n")
    assert len(frames) == 1_201
    assert frames[7].startswith(b'id: 8-0\r\nevent: change\r\ndata: {"id":"8-0"')


def test_few_are_served_at_the_same_time() -> None:
    past = Past(1_200, delay_s=0.001)

    async def story() -> None:
        feed = Feed(past, Keys("main"))
        await asyncio.gather(*(all_of(feed) for _ in range(30)))

    asyncio.run(story())
    assert past.most == feed_module.AT_ONCE


def test_while_many_catch_up_others_have_their_turn() -> None:
    async def story() -> int:
        feed = Feed(Past(1_200), Keys("main"))
        everyone = asyncio.gather(*(all_of(feed) for _ in range(50)))
        turns = 0
        while not everyone.done():
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert asyncio.run(story()) >= 50 * 3 // feed_module.AT_ONCE


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first(
    monkeypatch: pytest.MonkeyPatch, rendered: list[str]
) -> None:
    monkeypatch.setattr(feed_module, "REMEMBERED", 10)

    async def story() -> None:
        feed = Feed(Past(25), Keys("main"))
        await all_of(feed)
        await feed.batch("15-0", frozenset())
        assert len(rendered) == 25
        await feed.batch("14-0", frozenset())
        assert rendered[25] == "15-0"
        assert len(feed._frames) == 10

    asyncio.run(story())


def test_who_asks_for_jobs_gets_no_others_and_goes_on_behind_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "BATCH", 3)

    async def story() -> None:
        feed = Feed(Past(4), Keys("main"))
        assert await feed.batch("0", frozenset({7})) == Batch(b"", "3-0", True)
        assert await feed.batch("3-0", frozenset({7})) == Batch(b"", "4-0", False)
        assert await feed.batch("4-0", frozenset({7})) == Batch(b"", "4-0", False)

    asyncio.run(story())
