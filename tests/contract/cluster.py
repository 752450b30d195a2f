"""A cluster in a real Redis, in the words of the tests: submit, lead, join, place, claim, report; and its checks."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import redis
from msgspec.structs import replace

from shunter.domain.event import Cancelled, Event, Placed, Requeued, Returned, StopAsked
from shunter.domain.ids import AllocationId, Incarnation, JobId, NodeName
from shunter.domain.job import Job, Launch, Request, Submission
from shunter.domain.lease import Renewal
from shunter.domain.node import Gpu, Node
from shunter.domain.outcome import Exit, FailureClass, classify
from shunter.domain.phase import (
    HOLDS_GPUS,
    Allocation,
    Ended,
    NodeShare,
    Phase,
    Queued,
    Reserved,
    Running,
    StopCause,
    Stopping,
    phase_tag,
)
from shunter.domain.retry import on_claim, on_exit, on_lost
from shunter.domain.transition import apply
from shunter.store import commands, leases
from shunter.store.codec import Entry, Record
from shunter.store.command import Command
from shunter.store.commands import Answer, Leadership, Move
from shunter.store.keys import Keys
from shunter.store.leases import Renewed, Seen
from shunter.store.redis import Store
from shunter.store.routes import Finder, client, parse, with_cluster

T = TypeVar("T")
HOUR_MS: Final = 3_600_000
FINE: Final = Exit(50.0, code=0)
BAD: Final = Exit(60.0, code=3)
LOST: Final = Exit(70.0, failure=FailureClass.KEEPER_LOST, message="the keeper died")
GONE: Final = Exit(80.0, failure=FailureClass.NODE_LOST, message="the node is lost")

KINDS: Final = {
    "meta": b"hash", "specs": b"hash", "phases": b"hash", "active": b"zset", "ended": b"zset", "events": b"stream",
    "leader": b"hash", "coordinators": b"hash", "nodes": b"hash", "incarnations": b"hash", "cordons": b"hash",
    "seen": b"hash", "renewals": b"hash", "unfenced": b"hash", "ready_run": b"string",
    "decision": b"string", "policy": b"string", "usage": b"string", "held": b"set", "idem": b"string",
    "queues": b"set", "q": b"list",
}  # fmt: skip


class DeclaredKeysStore(Store):
    """Runs each script as a Redis user who may touch only the keys that the call declares, so that Redis itself refuses
    an undeclared one. Not for several threads."""

    def __init__(self, url: str, user: str) -> None:
        super().__init__(url)
        self._user = user
        for host, port in self.route.hosts:  # each node has its own users, and any may be asked who serves
            with redis.Redis(host=host, port=port) as node:
                node.execute_command("ACL", "SETUSER", user, "on", "nopass", "+@all")
        self._allow([])
        self._limited = Store(url.replace("://", f"://{user}@", 1))

    def _allow(self, names: Sequence[Any]) -> None:
        patterns = ["~" + re.sub(r"([*?\[\]\\])", r"\\\1", str(name)) for name in names]
        self._client.execute_command("ACL", "SETUSER", self._user, "on", "nopass", "+@all", "resetkeys", *patterns)

    def run(self, command: Command[T]) -> T:
        if command.script is None:
            return super().run(command)
        self._allow(command.parts[: command.keys])
        return self._limited.run(command)

    def close(self) -> None:
        self._client.execute_command("ACL", "DELUSER", self._user)
        self._limited.close()
        super().close()


def eventually(ask: Callable[[], T | None], what: str, *, within_s: float = 20.0) -> T:
    """Ask until the answer is not None; fail, saying *what* was waited for, after *within_s*."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        answer = ask()
        if answer is not None:
            return answer
    raise AssertionError(f"not within {within_s:g} s: {what}")


class Cluster:
    """*store* checks declared keys and is for one thread, *plain* may be shared. *whole* is False once the stream was
    cut short: then it is not replayed."""

    def __init__(self, url: str, name: str) -> None:
        self.server, self.url = url, with_cluster(url, name)
        url = self.url
        self.keys = Keys(name)
        self.store = DeclaredKeysStore(url, f"limited-{name}")
        self.plain = Store(url)
        route = parse(url)
        self.redis: Any = client(route, Finder(route), {"protocol": 2})
        self.whole = True
        self._allocations = 0
        self._renewals: dict[str, int] = {}

    def run(self, command: Command[T]) -> T:
        return self.store.run(command)

    # jobs

    def submit(self, jobs: int = 1, *, nodes: int = 1, key: tuple[str, str] | None = None) -> list[JobId]:
        return self.run(self.submission(jobs, nodes=nodes, key=key))

    def submission(self, jobs: int = 1, *, nodes: int = 1, key: tuple[str, str] | None = None) -> Command[list[JobId]]:
        job = Job(JobId(0), "train", "ada", Request(1, nodes), submitted_s=1.0, max_retries=2)
        return commands.submit(
            self.keys, [Submission(job, Launch(["true"], "/"))] * jobs, at_s=1.0, by="ada", idempotency=key
        )

    def queued(self, *, nodes: int = 1) -> JobId:
        return self.submit(nodes=nodes)[0]

    def record(self, job_id: JobId) -> Record:
        (record,) = self.run(commands.records(self.keys, [job_id]))
        assert record is not None
        return record

    def phase(self, job_id: JobId) -> Phase:
        return self.record(job_id).phase

    def job(self, job_id: JobId) -> Job:
        (job,) = self.run(commands.jobs(self.keys, [job_id]))
        assert job is not None
        return job

    # leader and nodes

    def lead(self, name: str = "coordinator-1", *, lease_ms: int = HOUR_MS) -> Leadership:
        """Become leader, whoever led before."""
        self.redis.hset(self.keys.leader, "until_ms", 0)
        won = self.run(commands.lead(self.keys, name, f"token-{name}", lease_ms))
        assert won.leading
        return Leadership(won.epoch, f"token-{name}")

    def join(
        self, name: str, *, host: str = "host-1", gpus: int = 2, worker: str = "",
        replace_after_ms: int = HOUR_MS,
    ) -> Node:  # fmt: skip
        """Register a new incarnation of *name*."""
        incarnation = self.run(commands.next_incarnation(self.keys))
        devices = tuple(Gpu(index, "H100", f"{name}-{index}", 81_920) for index in range(gpus))
        node = Node(NodeName(name), incarnation, devices, 16, 65_536, joined_s=2.0)
        command = commands.register(self.keys, node, host, replace_after_ms=replace_after_ms, worker=worker)
        self.run(command)
        return node

    def renewal(
        self, node: Node, *, number: int | None = None, done: int | None = None, fenced: bool = False,
        unfenced: bool = False, worker: str = "", terms: str = "normal",
    ) -> Command[Renewed]:  # fmt: skip
        """Return the next renewal of *node*, which carried out the answer to the one before; or renewal *number*."""
        worker = worker or node.incarnation
        if number is None:
            number = self._renewals.get(worker, 0) + 1
        self._renewals[worker] = number
        asked = Renewal(number, 0.0, number - 1 if done is None else done, fenced)
        return leases.renew(self.keys, node.name, node.incarnation, worker, asked, terms=terms, unfenced=unfenced)

    def renew(self, node: Node, **fields: Any) -> Renewed:
        """Renew as `renewal` says."""
        return self.run(self.renewal(node, **fields))

    def watch(self) -> Seen:
        return self.run(leases.watch(self.keys))

    def catch_up(self) -> None:
        """Have every leader to come believe that the nodes know all that this run of the store knows."""
        self.redis.set(self.keys.ready_run, self.watch().run_id)

    def losing(self, node: Node) -> list[Move]:
        """Return the moves that take everything off *node*, as whoever declares it lost makes them."""
        moves = []
        for job_id in self.held(node):
            phase = self.phase(job_id)
            assert isinstance(phase, HOLDS_GPUS)
            event = on_lost(self.job(job_id), phase, node.name, GONE, by="coordinator-1")
            if event is not None:
                moves.append(self._move(job_id, event))
        return moves

    def loss(
        self, leadership: Leadership | None, node: Node, moves: Sequence[Move] | None = None, *,
        holds: int | None = None, run_id: str | None = None, why: str = "silent for 30 s",
    ) -> Command[str]:  # fmt: skip
        """Return the call that declares *node* lost, as things are now; by an operator if *leadership* is None."""
        seen = self.watch()
        args = (
            self.keys, leadership, node.name, why,
            len(self.held(node)) if holds is None else holds,
            self.losing(node) if moves is None else moves,
        )  # fmt: skip
        if leadership is None:
            return leases.lose(*args)
        run_id = seen.run_id if run_id is None else run_id
        return leases.lose(*args, run_id=run_id, renewal=seen.written.get(node.name, "none"))

    def lose(self, leadership: Leadership | None, node: Node) -> str:
        return self.run(self.loss(leadership, node))

    # transitions, as their callers make them

    def placing(self, job_id: JobId, *nodes: Node) -> Move:
        """Place on a GPU of each of *nodes* that no other test move has had (what a node really has is not asked)."""
        self._allocations += 1
        shares = tuple(NodeShare(node.name, node.incarnation, (self._allocations,)) for node in nodes)
        allocation = Allocation(AllocationId(f"1.{self._allocations}"), shares)
        return self._move(job_id, Placed(10.0, "coordinator-1", allocation))

    def returning(self, job_id: JobId) -> Move:
        return self._move(job_id, Returned(11.0, "coordinator-1", "its node left"))

    def claiming(self, job_id: JobId, rank: int = 0) -> Move:
        phase = self.phase(job_id)
        assert isinstance(phase, Reserved)
        return self._move(job_id, on_claim(phase, rank, at_s=12.0, by="n"))

    def ending(self, job_id: JobId, exit: Exit = FINE, *, rank: int = 0) -> Move:
        phase = self.phase(job_id)
        assert isinstance(phase, Running | Stopping)
        return self._move(job_id, on_exit(self.job(job_id), phase, rank, exit, by="n"))

    def cancelling(self, job_id: JobId) -> Move:
        return self._move(job_id, cancel_of(self.phase(job_id)))

    def _move(self, job_id: JobId, event: Event) -> Move:
        return commands.move(job_id, self.record(job_id), event)

    def place(self, leadership: Leadership, *moves: Move) -> list[Answer]:
        return self.run(commands.place(self.keys, leadership, moves))

    def claim(self, node: Node, *moves: Move) -> list[tuple[Answer, tuple[Job, Launch] | None]]:
        return self.run(commands.claim(self.keys, node.name, node.incarnation, moves))

    def report(self, node: Node, *moves: Move) -> list[Answer]:
        return self.run(commands.report(self.keys, node.name, node.incarnation, moves))

    def stop(self, *moves: Move) -> list[Answer]:
        return self.run(commands.stop(self.keys, moves))

    # jobs that have come some way

    def reserved(self, leadership: Leadership, *nodes: Node) -> JobId:
        job_id = self.queued(nodes=len(nodes))
        assert self.place(leadership, self.placing(job_id, *nodes)) == ["ok"]
        return job_id

    def running(self, leadership: Leadership, *nodes: Node) -> JobId:
        job_id = self.reserved(leadership, *nodes)
        for rank, node in enumerate(nodes):
            ((answer, _),) = self.claim(node, self.claiming(job_id, rank))
            assert answer == "ok"
        return job_id

    def stopping(self, leadership: Leadership, *nodes: Node) -> JobId:
        job_id = self.running(leadership, *nodes)
        assert self.stop(self.cancelling(job_id)) == ["ok"]
        return job_id

    def ended(self, leadership: Leadership, *nodes: Node) -> JobId:
        job_id = self.running(leadership, *nodes)
        for rank, node in enumerate(nodes):
            assert self.report(node, self.ending(job_id, rank=rank)) == ["ok"]
        return job_id

    # what is stored

    def entries(self, kind: str | None = None) -> list[Entry]:
        found: list[Entry] = []
        after = "0-0"
        while more := self.run(commands.events(self.keys, after)):
            found += more
            after = more[-1].id
        return [entry for entry in found if kind is None or entry.kind == kind]

    def held(self, node: Node) -> list[JobId]:
        return self.run(commands.held(self.keys, node.name))

    def active(self) -> list[JobId]:
        return self.run(commands.active(self.keys))

    def seen_ms(self, node: Node) -> int:
        return self.run(commands.seen(self.keys))[node.name]

    def now_ms(self) -> int:
        return self.run(commands.store_time(self.keys))

    def snapshot(self) -> dict[bytes, bytes]:
        """Return every key of the cluster with its serialised value: equal snapshots mean that nothing changed."""
        return {name: self.redis.dump(name) for name in sorted(self.redis.scan_iter(f"{self.keys.prefix}*"))}

    def records(self) -> dict[JobId, Record]:
        ids = [JobId(int(job_id)) for job_id in self.redis.hkeys(self.keys.phases)]
        found = self.run(commands.records(self.keys, ids)) if ids else []
        return {job_id: record for job_id, record in zip(ids, found, strict=True) if record is not None}

    # checks

    def check(self) -> None:
        """Everything stored agrees with everything else (design section 3, invariants 1, 2 and 7)."""
        records = self.records()
        check_keys(self)
        check_nodes(self)
        check_phases(self, records)
        check_held(self, records)
        if self.whole:
            check_replay(self.entries(), records)

    def foreign_keys(self) -> list[bytes]:
        prefix = self.keys.prefix.encode()
        return sorted(name for name in self.redis.scan_iter() if not name.startswith(prefix))

    def wipe(self) -> None:
        self.redis.flushall()
        self.store.close()
        self.plain.close()
        self.redis.close()


def cancel_of(phase: Phase) -> Event:
    """Return what a cancel by ada is in *phase*."""
    if isinstance(phase, Queued | Reserved):
        return Cancelled(13.0, "ada")
    return StopAsked(13.0, "ada", StopCause.CANCELLED)


def requeued(move: Move) -> Move:
    """Return *move*, an end, as a retry."""
    event = Requeued(14.0, "n", classify(LOST, cancelled=False))
    return commands.move(move.job_id, move.before, event)


def with_incarnation(node: Node, incarnation: str) -> Node:
    return replace(node, incarnation=Incarnation(incarnation))


def check_keys(cluster: Cluster) -> None:
    """Only keys of the table in keys.py exist, each of its type; only idempotency keys and queues expire."""
    for name in cluster.redis.scan_iter(f"{cluster.keys.prefix}*"):
        kind = name.decode().removeprefix(cluster.keys.prefix).partition(":")[0]
        assert cluster.redis.type(name) == KINDS[kind], name
        assert (cluster.redis.ttl(name) > 0) == (kind in ("idem", "q")), name


def check_nodes(cluster: Cluster) -> None:
    """Each node is known with all that belongs to one; a lease has who was not lost."""

    def named(key: str) -> set[str]:
        return {name.decode() for name in cluster.redis.hkeys(key)}

    keys = cluster.keys
    at = {name.decode(): value for name, value in cluster.redis.hgetall(keys.incarnations).items()}
    living = {name for name, value in at.items() if not value.startswith(b"-")}
    assert named(keys.nodes) == named(keys.seen) == at.keys()
    assert named(keys.renewals) == living
    assert named(keys.unfenced) <= living


def check_phases(cluster: Cluster, records: dict[JobId, Record]) -> None:
    """Each job has one phase and a specification, and is either active or ended."""
    ended = {job_id for job_id, record in records.items() if isinstance(record.phase, Ended)}
    assert {int(one) for one in cluster.redis.hkeys(cluster.keys.specs)} == records.keys()
    assert cluster.active() == sorted(records.keys() - ended)
    assert {int(one) for one in cluster.redis.zrange(cluster.keys.ended, 0, -1)} == ended


def check_held(cluster: Cluster, records: dict[JobId, Record]) -> None:
    """Held sets are what the phases say, and no GPU is in two live allocations."""
    held: dict[str, set[int]] = {}
    gpus: dict[tuple[str, int], JobId] = {}
    for job_id, record in records.items():
        if isinstance(record.phase, HOLDS_GPUS):
            for share in record.phase.allocation.shares:
                held.setdefault(share.node, set()).add(job_id)
                for gpu in share.gpus:
                    other = gpus.setdefault((share.node, gpu), job_id)
                    assert other == job_id, f"GPU {gpu} of {share.node} belongs to jobs {other} and {job_id}"
    prefix = cluster.keys.held("")
    stored = {
        name.decode().removeprefix(prefix): {int(one) for one in cluster.redis.smembers(name)}
        for name in cluster.redis.scan_iter(f"{prefix}*")
    }
    assert stored == held


def check_replay(entries: Sequence[Entry], records: dict[JobId, Record]) -> None:
    """The stream has each transition of each job once, in order of revision, and replays to the stored phases."""
    replayed: dict[JobId, Record] = {}
    for entry in entries:
        if entry.job_id is None:
            continue
        after = entry.record()
        assert entry.rev == after.rev
        if entry.kind == "submitted":
            assert entry.job_id not in replayed
            assert (entry.rev, phase_tag(after.phase)) == (1, "queued")
        else:
            before = replayed[entry.job_id]
            assert entry.rev == before.rev + 1, f"job {entry.job_id}: revision {entry.rev} after {before.rev}"
            assert after.phase == apply(before.phase, entry.event())
        replayed[entry.job_id] = after
    for job_id, record in records.items():
        assert replayed[job_id] == record, f"job {job_id}"
