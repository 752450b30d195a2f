"""Everything that Shunter asks of Redis, as functions that return a Command. The scripts' heads hold the details."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from msgspec import Struct

from shunter.domain.event import Event, Submitted, event_tag
from shunter.domain.ids import Incarnation, JobId, NodeName
from shunter.domain.job import Job, Launch, Submission
from shunter.domain.node import Node
from shunter.domain.phase import HOLDS_GPUS, Phase, Queued
from shunter.domain.transition import apply
from shunter.errors import Conflict, Unavailable
from shunter.store import codec
from shunter.store.codec import Entry, Record
from shunter.store.command import Arg, Command, call, plain, unless_stale
from shunter.store.keys import Keys

EVENTS_KEPT: Final = 50_000
"""About how many entries the event stream keeps; a follower that fell further behind rebuilds its view."""

JUMP: Final = 2_000
"""More than anybody submits while a master that was replaced may still accept it: the lag that is allowed, 5 s."""

MAX_BATCH: Final = 500
"""Most jobs in one script call: a script stays well under 10 ms."""


class Leadership(Struct, frozen=True):
    """The lease that a coordinator works under; every script that it runs carries both."""

    epoch: int
    token: str


class Lead(Struct, frozen=True):
    """The answer to a request to lead: who does, for how many more ms, and whether that is the caller."""

    epoch: int
    left_ms: int
    leader: str
    leading: bool


class Move(Struct, frozen=True):
    """One job's transition to commit: the record it starts from, the event, and the record it becomes."""

    job_id: JobId
    before: Record
    event: Event
    after: Record


Answer = Literal["ok", "gone", "stale"] | Record
"""`ok`: committed (now or by an earlier try); `gone`: no such job; `stale`: the caller is fenced off; a Record: the job
has moved on since, and this is where it is now."""


def move(job_id: JobId, before: Record, event: Event) -> Move:
    """Return the transition of *event* on *before*. Raises IllegalTransition for a pair not in the table."""
    return Move(job_id, before, event, codec.record(apply(before.phase, event), before.rev + 1))


def submit(
    keys: Keys, submissions: Sequence[Submission], *, at_s: float, by: str, idempotency: tuple[str, str] | None = None
) -> Command[list[JobId]]:
    """Create jobs. *idempotency* is (digest of key and user, digest of the request): a repeat answers the first ids.

    The command raises Conflict when the key was used for another request.
    """

    def parse(reply: Any) -> list[JobId]:
        if reply and reply[0] == b"mismatch":
            raise Conflict(
                "Idempotency-Key: already used for another request", field="Idempotency-Key", fix="use a new key"
            )
        ids = reply[1:] if reply and reply[0] == b"repeated" else reply
        return [JobId(int(job_id)) for job_id in ids]

    first = codec.record(Queued(at_s), 1)
    names = [keys.meta, keys.specs, keys.phases, keys.active, keys.events]
    args: list[Arg] = [EVENTS_KEPT, first.value, codec.write_event(Submitted(at_s, by)), "", JUMP]
    if idempotency is not None:
        names.append(keys.idem(idempotency[0]))
        args[3] = idempotency[1]
    for submission in submissions:
        args += codec.write_spec(submission)
    return call("submit", names, args, parse)


def place(keys: Keys, leadership: Leadership, moves: Sequence[Move], *, run_id: str = "") -> Command[list[Answer]]:
    """Reserve (Placed) or take back (Returned), under *leadership*, and if given in the store's run *run_id* only.

    The command raises Unavailable if the store has restarted since.
    """

    def parse(reply: Any) -> list[Answer]:
        if reply and reply[0] == b"restarted":
            raise Unavailable("redis: has restarted", fix="it is looked at anew")
        return list(answers(reply))

    answers = _answers(len(moves))
    moved, held = items(keys, moves, first=6)
    names = [keys.leader, keys.phases, keys.active, keys.ended, keys.events, *held]
    args: list[Arg] = [leadership.epoch, leadership.token, EVENTS_KEPT, run_id, *moved]
    return call("place", names, args, parse)


def claim(
    keys: Keys, node: NodeName, incarnation: Incarnation, moves: Sequence[Move]
) -> Command[list[tuple[Answer, tuple[Job, Launch] | None]]]:
    """Take shares of attempts; what was taken comes with its job and launch."""
    moved, _ = items(keys, moves, first=7, held=False)
    names = [keys.incarnations, keys.phases, keys.active, keys.ended, keys.events, keys.specs]

    def parse(reply: Any) -> list[tuple[Answer, tuple[Job, Launch] | None]]:
        if reply and reply[0] == b"stale" and len(reply) == 1:
            return [("stale", None)] * len(moves)
        pairs = zip(moves, reply[::2], reply[1::2], strict=True)
        return [
            (_answer(answer), (codec.read_job(one.job_id, spec), codec.read_launch(spec)) if spec else None)
            for one, answer, spec in pairs
        ]

    return call("claim", names, [node, incarnation, EVENTS_KEPT, *moved], parse)


def report(keys: Keys, node: NodeName, incarnation: Incarnation, moves: Sequence[Move]) -> Command[list[Answer]]:
    """Say how members of attempts on *node* ended."""
    moved, held = items(keys, moves, first=6)
    names = [keys.incarnations, keys.phases, keys.active, keys.ended, keys.events, *held]
    return call("report", names, [node, incarnation, EVENTS_KEPT, *moved], _answers(len(moves)))


def stop(keys: Keys, moves: Sequence[Move]) -> Command[list[Answer]]:
    """Commit Cancelled and StopAsked."""
    moved, held = items(keys, moves, first=5)
    names = [keys.phases, keys.active, keys.ended, keys.events, *held]
    return call("stop", names, [EVENTS_KEPT, *moved], _answers(len(moves)))


def items(keys: Keys, moves: Sequence[Move], *, first: int, held: bool = True) -> tuple[list[Arg], list[str]]:
    """Return the item arguments of _common.lua, and the held keys, the first of which is KEYS[*first*]."""
    args: list[Arg] = []
    places: dict[str, int] = {}
    for one in moves:
        indexes = ""
        if held:
            before, after = _holds(one.before.phase), _holds(one.after.phase)
            changed = sorted(before ^ after)
            indexes = ",".join(str(places.setdefault(keys.held(node), first + len(places))) for node in changed)
        event = codec.write_event(one.event)
        args += (one.job_id, one.before.rev, one.after.value, event_tag(one.event), event, indexes)
    return args, list(places)


def _holds(phase: Phase) -> frozenset[NodeName]:
    return frozenset(phase.allocation.nodes) if isinstance(phase, HOLDS_GPUS) else frozenset()


def _answer(reply: bytes) -> Answer:
    if reply == b"ok":
        return "ok"
    if reply == b"gone":
        return "gone"
    return codec.read_record(reply)


def _answers(count: int) -> Any:
    def parse(reply: Any) -> list[Answer]:
        if reply and reply[0] == b"stale":
            return ["stale"] * count
        return [_answer(one) for one in reply]

    return parse


# leader


def lead(
    keys: Keys, name: str, token: str, lease_ms: int, present: tuple[str, int, bytes] = ("", 0, b"")
) -> Command[Lead]:
    """Ask to lead. *present*: the coordinator's id, for how many ms it counts as being there, and as what."""
    return call(
        "lead",
        [keys.leader, keys.events, keys.coordinators],
        [name, token, lease_ms, EVENTS_KEPT, *present],
        lambda reply: Lead(int(reply[0]), int(reply[1]), reply[2].decode(), bool(reply[3])),
    )


def resign(keys: Keys, leadership: Leadership | None, coordinator: str = "") -> Command[bool]:
    """End as the *coordinator* of that id, and as leader under *leadership*; return whether it was still that."""
    by: tuple[Arg, Arg] = ("", "") if leadership is None else (leadership.epoch, leadership.token)
    return call("resign", [keys.leader, keys.coordinators], [*by, coordinator], bool)


def leader(keys: Keys) -> Command[dict[str, str]]:
    """Return the leader's hash as text: epoch, name, until_ms, since_ms; empty before the first one."""
    return plain("HGETALL", keys.leader, parse=_text_dict)


# nodes


def next_incarnation(keys: Keys) -> Command[Incarnation]:
    """Return a new incarnation; they sort as text in the order in which the store gave them out."""
    return call("incarnate", [keys.meta], [1], lambda number: Incarnation(f"{int(number):010d}"))


def register(
    keys: Keys, node: Node, host: str, *, replace_after_ms: int, worker: str = "", joined: bool = False
) -> Command[None]:
    """Join, or once *joined* report a changed inventory. *worker* is a random token, new for each joining.

    The command raises Conflict if another host uses the name, a later start registered, or it should have joined and is
    not known.
    """

    def parse(reply: Any) -> None:
        if reply[0] == b"taken":
            raise Conflict(
                f"name: node {node.name!r} is in use on {reply[1].decode()} (seen {int(reply[2]) / 1000:.1f} s ago)",
                field="name",
                fix="give this node another --name, or stop the other one first",
            )
        if reply[0] == b"holds":
            raise Conflict(
                f"name: node {node.name!r} has {int(reply[2])} jobs on {reply[1].decode()}, which may still run them",
                field="name",
                fix="start it there with the same --home, or give this node another --name",
            )
        if reply[0] == b"stale":
            raise Conflict(f"name: a later start of node {node.name!r} has registered", field="name")

    names = [keys.nodes, keys.incarnations, keys.seen, keys.events, keys.held(node.name), keys.queues]
    names.append(keys.renewals)
    args: list[Arg] = [node.name, node.incarnation, host, codec.write_node(node), replace_after_ms, EVENTS_KEPT]
    args += [worker or node.incarnation, int(joined)]
    return call("register", names, args, parse)


def cordon(keys: Keys, node: str, why: str, by: str) -> Command[str]:
    """Return `ok`, `same` or `unknown`; an empty *why* uncordons."""
    return call(
        "cordon", [keys.nodes, keys.cordons, keys.events], [node, why, by, EVENTS_KEPT], lambda reply: reply.decode()
    )


def leave(keys: Keys, node: str, incarnation: str = "") -> Command[str]:
    """Return `ok`, `busy`, `stale` or `unknown`."""
    names = [keys.nodes, keys.incarnations, keys.seen, keys.cordons, keys.held(node), keys.events]
    names += keys.renewals, keys.unfenced
    return call("leave", names, [node, incarnation, EVENTS_KEPT], lambda reply: reply.decode())


def nodes(keys: Keys) -> Command[list[Node]]:
    """Return the nodes without their cordons, by name."""
    return plain(
        "HGETALL",
        keys.nodes,
        parse=lambda reply: sorted(map(codec.read_node, _pairs(reply).values()), key=lambda node: node.name),
    )


def cordons(keys: Keys) -> Command[dict[str, str]]:
    return plain("HGETALL", keys.cordons, parse=_text_dict)


def seen(keys: Keys) -> Command[dict[str, int]]:
    """Return when each node renewed last, store's clock, ms."""
    return plain("HGETALL", keys.seen, parse=lambda reply: {k: int(v) for k, v in _text_dict(reply).items()})


def held(keys: Keys, node: str) -> Command[list[JobId]]:
    return plain("SMEMBERS", keys.held(node), parse=lambda reply: sorted(JobId(int(one)) for one in reply))


def store_time(keys: Keys) -> Command[int]:  # noqa: ARG001  as all commands: behind Redis Cluster, keys choose the server
    """Return the store's clock in ms."""
    return plain("TIME", parse=lambda reply: int(reply[0]) * 1000 + int(reply[1]) // 1000)


# jobs


def records(keys: Keys, ids: Sequence[int]) -> Command[list[Record | None]]:
    return plain(
        "HMGET", keys.phases, *ids, parse=lambda reply: [codec.read_record(one) if one else None for one in reply]
    )


def jobs(keys: Keys, ids: Sequence[int]) -> Command[list[Job | None]]:
    return plain(
        "HMGET",
        keys.specs,
        *ids,
        parse=lambda reply: [
            codec.read_job(JobId(job_id), one) if one else None for job_id, one in zip(ids, reply, strict=True)
        ],
    )


def launch(keys: Keys, job_id: int) -> Command[Launch | None]:
    return plain("HGET", keys.specs, job_id, parse=lambda reply: codec.read_launch(reply) if reply else None)


def active(keys: Keys, *, after: int = 0, count: int = -1) -> Command[list[JobId]]:
    """Return ids of jobs that have not ended, ascending, above *after*, at most *count* (-1: all)."""
    return plain(
        "ZRANGEBYSCORE", keys.active, f"({after}", "+inf", "LIMIT", 0, count,
        parse=lambda reply: [JobId(int(one)) for one in reply],
    )  # fmt: skip


def active_count(keys: Keys) -> Command[int]:
    return plain("ZCARD", keys.active, parse=int)


def last_job(keys: Keys) -> Command[int]:
    return plain("HGET", keys.meta, "last_job", parse=lambda reply: int(reply or 0))


def forget(
    keys: Keys, leadership: Leadership, *, keep_s: float, keep: int, at_most: int = MAX_BATCH
) -> Command[int | None]:
    """Drop ended jobs past their retention; return how many, None if the caller no longer leads."""
    args: list[Arg] = [leadership.epoch, leadership.token, int(keep_s * 1000), keep, at_most]
    return call("forget", [keys.leader, keys.ended, keys.specs, keys.phases], args, unless_stale)


# events, and what the leader publishes


def last_event(keys: Keys) -> Command[str]:
    """Return the id of the newest entry of the event stream, `0-0` when there is none."""
    return plain("XREVRANGE", keys.events, "+", "-", "COUNT", 1, parse=_entry_id)


def first_event(keys: Keys) -> Command[str]:
    """Return the id of the oldest entry that is still kept."""
    return plain("XRANGE", keys.events, "-", "+", "COUNT", 1, parse=_entry_id)


def events(keys: Keys, after: str, *, block_ms: int | None = None, count: int = 1000) -> Command[list[Entry]]:
    """Return entries after *after*, waiting up to *block_ms* for the first (None: not at all)."""

    def parse(reply: Any) -> list[Entry]:
        if not reply:
            return []
        (_, entries), *_ = reply.items() if isinstance(reply, dict) else reply
        return [codec.read_entry(entry_id, codec.pairs(fields)) for entry_id, fields in entries]

    wait: tuple[Arg, ...] = () if block_ms is None else ("BLOCK", max(block_ms, 1))
    return plain("XREAD", "COUNT", count, *wait, "STREAMS", keys.events, after, parse=parse)


def put_decision(keys: Keys, leadership: Leadership, text: bytes) -> Command[bool]:
    """Publish why jobs wait; return False, and change nothing, if the caller no longer leads."""
    return publish(keys, leadership, keys.decision, text)


def decision(keys: Keys) -> Command[bytes | None]:
    return plain("GET", keys.decision, parse=lambda reply: reply)


def put_policy(keys: Keys, leadership: Leadership, text: bytes) -> Command[bool]:
    """Publish the policy in force; return False, and change nothing, if the caller no longer leads."""
    return publish(keys, leadership, keys.policy, text)


def policy(keys: Keys) -> Command[bytes | None]:
    return plain("GET", keys.policy, parse=lambda reply: reply)


def put_usage(keys: Keys, leadership: Leadership, text: bytes) -> Command[bool]:
    """Publish who used how much; return False, and change nothing, if the caller no longer leads."""
    return publish(keys, leadership, keys.usage, text)


def usage(keys: Keys) -> Command[bytes | None]:
    return plain("GET", keys.usage, parse=lambda reply: reply)


def publish(keys: Keys, leadership: Leadership, target: str, text: bytes) -> Command[bool]:
    """Write *text* to *target*; return False, and change nothing, if the caller no longer leads."""
    args: list[Arg] = [leadership.epoch, leadership.token, text]
    return call("publish", [keys.leader, target], args, lambda reply: bool(reply == b"ok"))


def _entry_id(reply: Any) -> str:
    return reply[0][0].decode() if reply else "0-0"


def _pairs(reply: Any) -> dict[bytes, bytes]:
    return reply if isinstance(reply, dict) else codec.pairs(reply)


def _text_dict(reply: Any) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in _pairs(reply).items()}


def redis_version(keys: Keys) -> Command[str]:  # noqa: ARG001  as all commands: behind Redis Cluster, keys choose the server
    def parse(reply: bytes) -> str:
        lines = (line.partition(":") for line in reply.decode().splitlines())
        return next((value for name, _, value in lines if name == "redis_version"), "")

    return plain("INFO", "server", parse=parse)
