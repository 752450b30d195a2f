"""The queues of node incarnations, as the leader keeps them: which there may be, and which are dead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shunter.domain.ids import Incarnation, NodeName
from shunter.store import codec
from shunter.store.command import Arg, Command, call, plain, unless_stale
from shunter.store.commands import Leadership
from shunter.store.keys import Keys

Owner = tuple[NodeName, Incarnation]


def known(keys: Keys) -> Command[list[Owner]]:
    """Return the incarnations that may have a queue, living and dead."""

    def parse(reply: Any) -> list[Owner]:
        pairs = (member.decode().split(" ", 1) for member in sorted(reply))
        return [(NodeName(node), Incarnation(incarnation)) for node, incarnation in pairs]

    return plain("SMEMBERS", keys.queues, parse=parse)


def living(keys: Keys) -> Command[set[Owner]]:
    """Return the present incarnation of each node."""

    def parse(reply: Any) -> set[Owner]:
        stored = reply if isinstance(reply, dict) else codec.pairs(reply)
        return {(NodeName(node.decode()), Incarnation(at.partition(b" ")[0].decode())) for node, at in stored.items()}

    return plain("HGETALL", keys.incarnations, parse=parse)


def bury(keys: Keys, leadership: Leadership, dead: Sequence[Owner]) -> Command[int | None]:
    """Delete the queues of *dead*, but of who lives after all; return how many, None if the caller no longer leads."""
    names = [keys.leader, keys.incarnations, keys.queues, *(keys.queue(*one) for one in dead)]
    args: list[Arg] = [leadership.epoch, leadership.token, *(f"{node} {incarnation}" for node, incarnation in dead)]
    return call("bury", names, args, unless_stale)
