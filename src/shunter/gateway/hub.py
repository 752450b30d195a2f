"""One blocked reader of the event stream per gateway, however many people follow: it only says that there is news."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from shunter.errors import Unavailable
from shunter.store import commands
from shunter.store.keys import Keys
from shunter.store.redis import AsyncStore

BLOCK_MS: Final = 2_000
RETRY_S: Final = 0.5
HEARTBEAT_S: Final = 10.0
"""A follower gets a tick at least this often, so that a connection that nobody reads is noticed."""


class Hub:
    """`news()` ticks after each batch of entries, and at least every HEARTBEAT_S."""

    def __init__(self, store: AsyncStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._count = 0
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    def news(self) -> AsyncIterator[None]:
        """Tick for ever, for whatever came since this call: call it before the first read of the stream.

        What came between two ticks is one tick: readers have cursors of their own.
        """
        return self._ticks(self.version())

    def version(self) -> int:
        """Return a number that changes with every batch of entries: for readers that wait on something else too."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch(), name="event hub")
        return self._count

    async def _ticks(self, seen: int) -> AsyncIterator[None]:
        while True:
            async with self._changed:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait_for(lambda: self._count != seen), HEARTBEAT_S)  # noqa: B023
                seen = self._count
            yield None

    async def _watch(self) -> None:
        cursor = ""
        while True:
            try:
                if not cursor:
                    cursor = await self._store.run(commands.last_event(self._keys))
                    await self._tick()  # what came before this cursor may be news to who has read before
                entries = await self._store.run(commands.events(self._keys, cursor, block_ms=BLOCK_MS))
            except Unavailable:
                await asyncio.sleep(RETRY_S)
                continue
            if entries:
                cursor = entries[-1].id
                await self._tick()

    async def _tick(self) -> None:
        async with self._changed:
            self._count += 1
            self._changed.notify_all()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
