"""The leader's view of the cluster: read from the store once, then kept up to date from the event stream."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import structlog
from msgspec.structs import replace

from shunter.domain.ids import JobId, NodeName
from shunter.domain.job import WHOLE_GPU, Job
from shunter.domain.phase import Ended, Reserved, Running, Stopping
from shunter.scheduling.policy import Policy
from shunter.scheduling.usage import Usage
from shunter.scheduling.view import View
from shunter.store import codec, commands, lenient
from shunter.store.codec import Entry, Record
from shunter.store.keys import Keys
from shunter.store.lenient import Unreadable
from shunter.store.redis import Store

CHUNK: Final = 1000
REASONS_TO_DECIDE: Final = frozenset(
    {
        "submitted",
        "exited",
        "requeued",
        "returned",
        "cancelled",
        "node_joined",
        "node_uncordoned",
        "node_cordoned",
        "node_left",
    }
)
"""Kinds of entries after which a pass may find something to place."""


SUBMITTED: Final = "submitted"
ENDED: Final = frozenset({"exited", "requeued"})
"""Kinds of entries that end an attempt which may have run."""

log = structlog.get_logger("coordinator")


class Changes:
    """What a batch of entries asks the leader to do besides deciding.

    *reread*: one of them could not be read. *bury*: an incarnation of a node is no more, and nobody reads its queue.
    """

    def __init__(self) -> None:
        self.decide = False
        self.reread = False
        self.tell: dict[JobId, Record] = {}
        self.bury = False


class Follower:
    """*view* and *records* are the store's state as of *cursor*.

    An entry that is older than a record is skipped by revision. A job that cannot be read is left out, and the nodes
    that it may hold something on are closed: they take no new work.
    """

    def __init__(self, store: Store, keys: Keys, policy: Policy) -> None:
        self._store = store
        self._keys = keys
        self.view = View(policy)
        self.records: dict[JobId, Record] = {}
        self.cursor = "0-0"
        self._closed: dict[NodeName, str] = {}
        self._charged = "0-0"
        """The last entry that some use was charged for."""

    def rebuild(self) -> None:
        """Read everything. What changes meanwhile comes again through the stream, for the cursor is read first."""
        keys = self._keys
        self.view, self.records = View(self.view.policy), {}
        self.cursor, nodes, cordons = self._store.run_all(
            commands.last_event(keys), lenient.nodes(keys), commands.cordons(keys)
        )
        readable = []
        for name, node in nodes.items():
            if isinstance(node, Unreadable):
                log.error("a node in the store cannot be read and is left out", node=name, error=node.error)
            else:
                readable.append(replace(node, cordoned=cordons.get(name, "")))
        self.view.put_nodes(readable)
        unread: dict[JobId, str] = {}
        after = 0
        while ids := self._store.run(commands.active(keys, after=after, count=CHUNK)):
            jobs, records = self._store.run_all(lenient.jobs(keys, ids), lenient.records(keys, ids))
            for job_id, job, record in zip(ids, jobs, records, strict=True):
                if isinstance(job, Unreadable) or isinstance(record, Unreadable):
                    unread[job_id] = (job if isinstance(job, Unreadable) else record).error
                elif job is not None and record is not None:
                    self.put(job, record)
            after = ids[-1]
        self._leave_out(unread, sorted(nodes))
        self._load_usage()

    def _leave_out(self, unread: Mapping[JobId, str], names: Sequence[NodeName]) -> None:
        """Close the nodes that jobs hold something on of which nobody can say what."""
        self._closed = {}
        for job_id, error in unread.items():
            log.error("a job in the store cannot be read and is left out", job=job_id, error=error)
        if not unread or not names:
            return
        held = self._store.run_all(*(commands.held(self._keys, name) for name in names))
        for name, ids in zip(names, held, strict=True):
            if found := [job_id for job_id in ids if job_id in unread]:
                self._closed[name] = f"holds job {found[0]}, which cannot be read"
                log.error("a node gets no new work", node=name, why=self._closed[name])
                if name in self.view.nodes:
                    self.view.put_node(replace(self.view.nodes[name], cordoned=self._closed[name]))

    def _load_usage(self) -> None:
        """Take over what an earlier leader counted, and charge what has ended since and will not be followed.

        That is what ended before our own cursor, and what the jobs, which were read after it, already know.
        """
        usage = self._stored_usage()
        if usage is not None:
            self.view.ledger.load(usage.used, usage.at_s)
        self._charged = until = self._store.run(commands.last_event(self._keys))
        cursor = self.cursor if usage is None else usage.cursor
        fresh: set[JobId] = set()
        while before(cursor, until) and (entries := self._store.run(commands.events(self._keys, cursor, count=CHUNK))):
            ended: list[tuple[JobId, tuple[float, float]]] = []
            for entry in entries:
                if before(until, entry.id) or entry.job_id is None:
                    continue
                ours = before(self.cursor, entry.id)
                if ours and entry.kind == SUBMITTED and entry.job_id not in self.records:
                    fresh.add(entry.job_id)  # followed from its submission on, wherever it has got to
                span = _ended_span(entry)
                if span is not None and not (ours and (entry.job_id in fresh or not self._knows(entry))):
                    ended.append((entry.job_id, span))
            self._charge(ended)
            cursor = entries[-1].id

    def _stored_usage(self) -> Usage | None:
        text = self._store.run(commands.usage(self._keys))
        try:
            return None if text is None else msgspec.json.decode(text, type=Usage)
        except msgspec.DecodeError as error:
            log.error("the use in the store cannot be read: fair share begins anew", error=str(error))
            return None

    def _charge(self, ended: list[tuple[JobId, tuple[float, float]]]) -> None:
        ids = sorted({job_id for job_id, _ in ended})
        found = self._store.run(lenient.jobs(self._keys, ids)) if ids else []
        jobs = {job.id: job for job in found if isinstance(job, Job)}
        for job_id, span in ended:
            if job_id in jobs:
                job = jobs[job_id]
                self.view.ledger.charge((job.team, job.user), job.request.milli / WHOLE_GPU, *span)

    def usage(self, now_s: float) -> Usage | None:
        """Return what has been used as of the last entry that was followed; None while more is charged than that."""
        if before(self.cursor, self._charged):
            return None
        return Usage(now_s, self.cursor, self.view.ledger.past(now_s))

    def use(self, policy: Policy) -> None:
        """Have the view be one for *policy*."""
        if policy != self.view.policy:
            self.view = self.view.made_for(policy, time.time())

    def put(self, job: Job, record: Record) -> None:
        self.view.put_job(job, record.phase)
        if isinstance(record.phase, Ended):
            self.records.pop(job.id, None)
        else:
            self.records[job.id] = record

    def follow(self, entries: list[Entry]) -> Changes:
        """Bring the view up to date with *entries*, in order."""
        changes = Changes()
        for entry in entries:
            self.cursor = entry.id
            if entry.job_id is not None:
                self._follow_job(entry, entry.job_id, changes)
            elif entry.kind.startswith("node_"):
                self._follow_node(entry, changes)
        return changes

    def _follow_job(self, entry: Entry, job_id: JobId, changes: Changes) -> None:
        found = lenient.attempt(self._news, entry, job_id)
        if isinstance(found, Unreadable):
            log.error("an event cannot be read", entry=entry.id, job=job_id, error=found.error)
            changes.reread = True
        if found is None or isinstance(found, Unreadable):
            return
        job, record = found
        self.put(job, record)
        changes.decide |= entry.kind in REASONS_TO_DECIDE
        if isinstance(record.phase, Stopping) or (
            isinstance(record.phase, Running) and len(record.phase.allocation.shares) > 1
        ):
            changes.tell[job_id] = record
        else:
            changes.tell.pop(job_id, None)

    def _news(self, entry: Entry, job_id: JobId) -> tuple[Job, Record] | None:
        """Return the job and where it is after *entry*; None for one that has ended since, or is further than that.

        Our own commits come back so. Raises ValueError for what does not decode.
        """
        job = self.view.jobs.get(job_id) or (entry.job() if entry.kind == SUBMITTED else None)
        return None if job is None or (job_id in self.records and self._knows(entry)) else (job, entry.record())

    def _knows(self, entry: Entry) -> bool:
        """Return whether the view is as far as *entry*, so that following it changes nothing."""
        known = None if entry.job_id is None else self.records.get(entry.job_id)
        return known is None or known.rev >= entry.rev

    def _follow_node(self, entry: Entry, changes: Changes) -> None:
        name = NodeName(entry.node)
        before = self.view.nodes.get(name)
        changes.decide = True
        if entry.kind == "node_left":
            self.view.remove_node(name)
            changes.bury = True
            return
        if entry.kind == "node_lost":
            self.view.set_silent(self.view.silent | {name})  # until it joins anew
            changes.bury = True
            return
        if entry.kind == "node_joined":
            read = lenient.attempt(codec.read_node, entry.value)
            if isinstance(read, Unreadable):
                log.error("a node cannot be read and is left as it was", node=name, error=read.error)
                return
            node = replace(read, cordoned=self._closed.get(name, ""))
            if before is not None:
                node = replace(node, cordoned=before.cordoned)
                changes.bury |= before.incarnation != node.incarnation
        elif before is not None:
            node = replace(before, cordoned=entry.value.decode() or self._closed.get(name, ""))
        else:
            return
        self.view.put_node(node)

    def stranded(self) -> list[tuple[JobId, Record]]:
        """Return reservations that nobody will claim: on incarnations that are no more, or as earlier versions wrote
        them."""
        current = {name: node.incarnation for name, node in self.view.nodes.items()}
        found = {}
        for _, job_id, share in self.view.holders():
            record = self.records[job_id]
            if isinstance(record.phase, Reserved) and (
                current.get(share.node) != share.incarnation or not codec.names_shares(record)
            ):
                found[job_id] = record
        return sorted(found.items())


def before(one: str, other: str) -> bool:
    """Return whether entry id *one* comes before *other*."""
    return _order(one) < _order(other)


def _order(entry_id: str) -> tuple[int, int]:
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number)


def _ended_span(entry: Entry) -> tuple[float, float] | None:
    """Return from when to when the attempt ran that *entry* ended; None if it ended none, or cannot be read."""
    record = lenient.attempt(entry.record) if entry.kind in ENDED else None
    if record is None or isinstance(record, Unreadable):
        return None
    phase = record.phase
    if isinstance(phase, Ended):
        return None if phase.started_s is None else (phase.started_s, phase.ended_s)
    last = phase.past[-1] if phase.past else None
    return None if last is None or last.started_s is None else (last.started_s, last.ended_s)
