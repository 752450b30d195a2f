"""The event stream for any number of followers: what one of them was shown is not rendered again for the next."""

from __future__ import annotations

import asyncio
from typing import Any, Final, NamedTuple

import msgspec

from shunter.domain.report import EventView, state_of
from shunter.gateway.describe import describe
from shunter.store import commands
from shunter.store.codec import Entry
from shunter.store.keys import Keys
from shunter.store.redis import AsyncStore

BATCH: Final = 500
AT_ONCE: Final = 4
"""Batches that are read at the same time: other requests wait for a few of them at most, not for every follower's."""
REMEMBERED: Final = 5_000
_encode = msgspec.json.encode


def frame(event: str, value: Any, cursor: str = "") -> bytes:
    """Return a server-sent event with *value* as JSON, which has no line breaks of its own."""
    head = f"id: {cursor}\r\nevent: {event}" if cursor else f"event: {event}"
    return b"%b\r\ndata: %b\r\n\r\n" % (head.encode(), _encode(value))


def comment(text: str) -> bytes:
    """Return a line that says nothing to programs, and that the connection lives."""
    return f": {text}\r\n\r\n".encode()


WAITING: Final = comment("waiting")


class Batch(NamedTuple):
    """*frames* are server-sent events as bytes, maybe none; with *more* there were entries left after *last*."""

    frames: bytes
    last: str
    more: bool


class Feed:
    """One per gateway. An entry never changes, so its rendering is kept, by its id, until newer ones displace it."""

    def __init__(self, store: AsyncStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._frames: dict[str, bytes] = {}

    async def batch(self, after: str, jobs: frozenset[int]) -> Batch:
        """Return the next entries after *after*, those that concern *jobs* (all if empty) as frames."""
        async with self._turns:
            entries = await self._store.run(commands.events(self._keys, after, count=BATCH))
            frames = b"".join(self._frame(entry) for entry in entries if not jobs or entry.job_id in jobs)
            await asyncio.sleep(0)  # a turn ends with others at work, however fast the store answers
        return Batch(frames, entries[-1].id if entries else after, len(entries) == BATCH)

    def _frame(self, entry: Entry) -> bytes:
        known = self._frames.get(entry.id)
        if known is not None:
            return known
        if len(self._frames) >= REMEMBERED:
            del self._frames[next(iter(self._frames))]
        made = self._frames[entry.id] = frame("change", view_event(entry), entry.id)
        return made


def view_event(entry: Entry) -> EventView:
    if entry.job_id is None:
        return EventView(entry.id, entry.at_s, entry.kind, node=entry.node, text=describe(entry))
    event, phase = entry.event(), entry.record().phase
    return EventView(
        entry.id,
        entry.at_s,
        entry.kind,
        job=entry.job_id,
        by=event.by,
        rev=entry.rev,
        state=state_of(phase),
        text=describe(entry),
        phase=phase,
    )
