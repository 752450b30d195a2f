"""The reads of `commands.py` for whoever must go on with the rest when something that is stored does not decode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from msgspec import Struct

from shunter.domain.ids import JobId, NodeName
from shunter.domain.job import Job
from shunter.domain.node import Node
from shunter.store import codec
from shunter.store.codec import Record
from shunter.store.command import Command, plain
from shunter.store.keys import Keys

T = TypeVar("T")


class Unreadable(Struct, frozen=True):
    """What stands in the place of something that does not decode: type and message of the *error*."""

    error: str


def attempt(decode: Callable[..., T], *args: Any) -> T | Unreadable:
    """Return what *decode* makes of *args*."""
    try:
        return decode(*args)
    except (ValueError, RecursionError) as error:
        return Unreadable(f"{type(error).__name__}: {error}")


def nodes(keys: Keys) -> Command[dict[NodeName, Node | Unreadable]]:
    """Return the nodes without their cordons, by name."""

    def parse(reply: Any) -> dict[NodeName, Node | Unreadable]:
        stored = reply if isinstance(reply, dict) else codec.pairs(reply)
        return {NodeName(name.decode()): attempt(codec.read_node, text) for name, text in sorted(stored.items())}

    return plain("HGETALL", keys.nodes, parse=parse)


def jobs(keys: Keys, ids: Sequence[JobId]) -> Command[list[Job | Unreadable | None]]:
    def parse(reply: Any) -> list[Job | Unreadable | None]:
        pairs = zip(ids, reply, strict=True)
        return [attempt(codec.read_job, job_id, text) if text else None for job_id, text in pairs]

    return plain("HMGET", keys.specs, *ids, parse=parse)


def records(keys: Keys, ids: Sequence[JobId]) -> Command[list[Record | Unreadable | None]]:
    return plain(
        "HMGET",
        keys.phases,
        *ids,
        parse=lambda reply: [attempt(codec.read_record, text) if text else None for text in reply],
    )
