"""Leases in the store: what nodes renew, what the leader watches, and what takes a lost node's jobs off it.

The rules that these scripts are part of are `domain.lease`'s. A renewal is stored as `TOKEN NUMBER DONE TERMS`: the
mark of `domain.lease`, and by which terms the leader is to judge the node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from shunter.domain.ids import Incarnation, JobId, NodeName
from shunter.domain.job import Job
from shunter.domain.lease import NORMAL, TERMS, Answer, Granted, LeaseTerms, Lost, Mark, Old, Renewal, Stale
from shunter.domain.outcome import Exit, FailureClass
from shunter.domain.phase import HOLDS_GPUS
from shunter.domain.retry import on_lost
from shunter.store import codec
from shunter.store.codec import Record
from shunter.store.command import Arg, Command, call
from shunter.store.commands import EVENTS_KEPT, JUMP, Leadership, Move, items, move, publish
from shunter.store.keys import Keys

_ANSWERS: dict[bytes, Answer] = {b"stale": Stale(), b"lost": Lost(), b"old": Old()}


class Renewed(Struct, frozen=True):
    """The answer to a renewal, with what the node holds by the store if it was granted."""

    answer: Answer
    held: dict[JobId, Record]


class Seen(Struct, frozen=True):
    """What the leader judges by, of one moment. *at_ms* is the store's clock, *seen_ms* when each node renewed last."""

    run_id: str
    at_ms: int
    marks: dict[NodeName, Mark]
    terms: dict[NodeName, LeaseTerms]
    unfenced: frozenset[NodeName]
    seen_ms: dict[NodeName, int]
    ready_run: str
    written: dict[NodeName, str]
    """Each renewal as it is stored."""

    def silent_s(self, node: NodeName) -> float:
        """Return for how long nothing was heard of *node*."""
        return (self.at_ms - self.seen_ms.get(node, 0)) / 1000

    def is_silent(self, node: NodeName) -> bool:
        """Return whether that is so long, by the node's own terms, that it gets no new work."""
        return self.silent_s(node) > self.terms.get(node, NORMAL).silent_after_s

    def lease_of(self, node: NodeName) -> str:
        """Return the terms that *node* runs by: `normal`, `fast`, `unfenced`; nothing if it was lost."""
        if node in self.unfenced:
            return "unfenced"
        return self.written[node].rpartition(" ")[2] if node in self.written else ""


def renew(
    keys: Keys, node: NodeName, incarnation: Incarnation, worker: str, asked: Renewal,
    *, terms: str = "normal", unfenced: bool = False,
) -> Command[Renewed]:  # fmt: skip
    """Ask for the lease. *worker* is the token of the registration, *unfenced*: the node shall run without deadline.

    *terms* count from the first renewal on that says that an answer was carried out: until then the keeper may go by a
    deadline that an earlier worker gave it, and the node is judged by the terms of that one.
    """

    def parse(reply: Any) -> Renewed:
        if reply[0] != b"ok":
            return Renewed(_ANSWERS[reply[0]], {})
        pairs = zip(reply[2::2], reply[3::2], strict=True)
        held = {JobId(int(job_id)): codec.read_record(value) for job_id, value in pairs if value}
        return Renewed(Granted(reply[1].decode()), held)

    names = [keys.incarnations, keys.seen, keys.held(node), keys.phases, keys.renewals, keys.unfenced, keys.nodes]
    args: list[Arg] = [node, incarnation, worker, asked.number, asked.done, terms, int(asked.fenced), int(unfenced)]
    return call("renew", names, args, parse)


def tell(keys: Keys, node: NodeName, incarnation: Incarnation, kind: str, text: str) -> Command[str]:
    """Put what happened on *node* into the event stream, for people. Return `ok` or `stale`."""
    args: list[Arg] = [node, incarnation, kind, text, EVENTS_KEPT]
    return call("tell", [keys.incarnations, keys.events], args, lambda reply: reply.decode())


def watch(keys: Keys) -> Command[Seen]:
    """Return what all nodes' leases are to be judged by."""

    def parse(reply: Any) -> Seen:
        run_id, at_ms, renewals, unfenced, seen, ready_run = reply
        written = {NodeName(node.decode()): one.decode() for node, one in codec.pairs(renewals).items()}
        fields = {node: one.split(" ") for node, one in written.items()}
        return Seen(
            run_id.decode(),
            int(at_ms),
            {node: Mark(token, int(number), int(done)) for node, (token, number, done, _) in fields.items()},
            {node: TERMS[terms] for node, (*_, terms) in fields.items() if terms in TERMS},
            frozenset(NodeName(node.decode()) for node in unfenced)
            # Terms of a later version: nobody here can say when such a node has frozen its jobs.
            | {node for node, (*_, terms) in fields.items() if terms not in TERMS},
            {NodeName(node.decode()): int(ms) for node, ms in codec.pairs(seen).items()},
            ready_run.decode(),
            written,
        )

    return call("watch", [keys.renewals, keys.unfenced, keys.seen, keys.ready_run], [], parse)


def ready(keys: Keys, leadership: Leadership, run_id: str) -> Command[bool]:
    """Note that every node was caught up under *run_id*; return False if the caller no longer leads."""
    return publish(keys, leadership, keys.ready_run, run_id.encode())


def advance(keys: Keys, leadership: Leadership, run_id: str) -> Command[str]:
    """Have job numbers and incarnations jump ahead, once, where the server of *run_id* took over from another.

    Return `ok`, `same` or `stale`.
    """
    args: list[Arg] = [leadership.epoch, leadership.token, run_id, JUMP]
    return call("advance", [keys.leader, keys.meta], args, lambda reply: reply.decode())


def lose(
    keys: Keys, leadership: Leadership | None, node: str, why: str, holds: int, moves: Sequence[Move],
    *, run_id: str = "", renewal: str = "",
) -> Command[str]:  # fmt: skip
    """Take all jobs off *node*, which *holds* so many, by *moves*, and let nothing of its incarnation count any more.

    By the leader under *leadership* if run id and *renewal* stand as it saw them; by an operator (None) whatever they
    are. Return `ok`, `stale`, `moved` (nothing was changed: look again) or `unknown`.
    """
    assert leadership is None or (run_id and renewal), "a leader judges by what it saw"
    args, held = items(keys, moves, first=10)
    names = [
        keys.leader, keys.phases, keys.active, keys.ended, keys.events, keys.incarnations, keys.renewals,
        keys.unfenced, keys.held(node), *held,
    ]  # fmt: skip
    by: tuple[Arg, Arg] = ("", "") if leadership is None else (leadership.epoch, leadership.token)
    head: list[Arg] = [*by, run_id, node, renewal, holds, why, EVENTS_KEPT]
    return call("lose", names, [*head, *args], lambda reply: reply.decode())


def moves_of_lost(
    found: Iterable[tuple[Job | None, Record | None]], node: NodeName, why: str, *, at_s: float, by: str
) -> list[Move]:
    """Return what becomes of the jobs *found* on *node* once it is lost, but of those that it has ended."""
    exit = Exit(at_s, failure=FailureClass.NODE_LOST, message=why)
    moves = []
    for job, record in found:
        if job is not None and record is not None and isinstance(record.phase, HOLDS_GPUS):
            event = on_lost(job, record.phase, node, exit, by=by)
            if event is not None:
                moves.append(move(job.id, record, event))
    return moves
