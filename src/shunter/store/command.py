"""A call to Redis as a value: what to send and how to read the answer.

One definition serves the blocking client (coordinator, node) and the asyncio client (gateway), so there are no two
copies of the store's protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha1
from importlib import resources
from typing import Any, Generic, TypeVar

from msgspec import Struct

T = TypeVar("T")
Arg = str | bytes | int | float


class Script(Struct, frozen=True):
    """A Lua script with the digest that EVALSHA wants."""

    name: str
    text: str
    sha: str


class Command(Struct, Generic[T], frozen=True):
    """*parts* is a plain command (name and arguments), or with *script* the keys and arguments of a script."""

    parts: tuple[Arg, ...]
    parse: Callable[[Any], T]
    script: Script | None = None
    keys: int = 0


MOVES = frozenset({"place", "claim", "report", "stop", "lose"})
"""Scripts that move jobs and so begin with the text of `_common.lua`."""

GROWING = frozenset({"submit"})
"""Scripts that a Redis whose memory is full refuses. The others keep what runs going, or let go of something."""

READING = frozenset({"watch"})

_WHEN_FULL = "redis.call('PERSIST', KEYS[1])\n"
"""Lets what follows write when memory is full: Redis refuses a script's first write only, and never this one, which
does nothing, for no KEYS[1] expires. `#!lua flags=allow-oom` would say so plainly, but Redis 6 cannot read it. Source:
scriptVerifyOOM in script.c (7.0), luaRedisGenericCommand in scripting.c (6.2)."""


@cache
def script(name: str, *, guard: bool = False) -> Script:
    """Return the script *name*; with *guard* it wants `meta` and the data set's identity too: see `guarded`."""
    folder = resources.files("shunter.store") / "scripts"
    text = (folder / f"{name}.lua").read_text()
    if name in MOVES:
        text = (folder / "_common.lua").read_text() + text
    if name not in GROWING | READING:
        text = _WHEN_FULL + text
    if guard:
        text = (folder / "_guard.lua").read_text() + text
    return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


def call(name: str, keys: Sequence[str], args: Sequence[Arg], parse: Callable[[Any], T]) -> Command[T]:
    """Return the command that runs script *name*. Every key that the script touches is in *keys*."""
    return Command((*keys, *args), parse, script(name), len(keys))


def guarded(command: Command[T], meta: str, identity: str) -> Command[T]:
    """Return *command*, a script's call, as one that does nothing on a data set that is not *identity*.

    There it answers the error `FOREIGN IDENTITY`, with that of the data set that was found.
    """
    assert command.script is not None
    keys, args = command.parts[: command.keys], command.parts[command.keys :]
    text = script(command.script.name, guard=True)
    return Command((*keys, meta, *args, identity), command.parse, text, len(keys) + 1)


def plain(*parts: Arg, parse: Callable[[Any], T]) -> Command[T]:
    return Command(parts, parse)


def unless_stale(reply: Any) -> int | None:
    """Return the count that a fenced script answered; None for -1: its caller no longer leads."""
    return None if int(reply) < 0 else int(reply)
