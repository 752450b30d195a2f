"""The leader's view of the cluster: read from the store once, then kept up to date from the event stream."""

from __future__ import annotations

import time
from typing import Final

import msgspec
from msgspec.structs import replace

from shunter.domain.event import Submitted
from shunter.domain.ids import JobId, NodeName
from shunter.domain.job import WHOLE_GPU, Job
from shunter.domain.phase import Ended, Reserved, Running, Stopping
from shunter.scheduling.policy import Policy
from shunter.scheduling.usage import Usage
from shunter.scheduling.view import View
from shunter.store import codec, commands
from shunter.store.codec import Entry, Record
from shunter.store.keys import Keys
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


ENDED: Final = frozenset({"exited", "requeued"})
"""Kinds of entries that end an attempt which may have run."""


class Changes:
    """What a batch of entries asks the leader to do besides deciding."""

    def __init__(self) -> None:
        self.decide = False
        self.tell: dict[JobId, Record] = {}
        self.restarted: list[tuple[NodeName, str]] = []


class Follower:
    """*view* and *records* are the store's state as of *cursor*.

    An entry that is older than a record is skipped by revision.
    """

    def __init__(self, store: Store, keys: Keys, policy: Policy) -> None:
        self._store = store
        self._keys = keys
        self.view = View(policy)
        self.records: dict[JobId, Record] = {}
        self.cursor = "0-0"

    def rebuild(self) -> None:
        """Read everything. What changes meanwhile comes again through the stream, for the cursor is read first."""
        keys = self._keys
        self.view, self.records = View(self.view.policy), {}
        self.cursor, nodes, cordons = self._store.run_all(
            commands.last_event(keys), commands.nodes(keys), commands.cordons(keys)
        )
        for node in nodes:
            self.view.put_node(replace(node, cordoned=cordons.get(node.name, "")))
        after = 0
        while ids := self._store.run(commands.active(keys, after=after, count=CHUNK)):
            jobs, records = self._store.run_all(commands.jobs(keys, ids), commands.records(keys, ids))
            for job, record in zip(jobs, records, strict=True):
                if job is not None and record is not None:
                    self.put(job, record)
            after = ids[-1]
        self._load_usage()

    def _load_usage(self) -> None:
        """Take over what an earlier leader counted, and count what has ended since it wrote that down."""
        text = self._store.run(commands.usage(self._keys))
        if text is None:
            return
        usage = msgspec.json.decode(text, type=Usage)
        self.view.ledger.load(usage.used, usage.at_s)
        cursor = usage.cursor
        while entries := self._store.run(commands.events(self._keys, cursor, count=CHUNK)):
            # What comes after our own cursor is followed, and charged, as it comes.
            ended = [(entry.job_id, span) for entry in entries if (span := _ended_span(entry, self.cursor)) is not None]
            ids = sorted({job_id for job_id, _ in ended if job_id is not None})
            found = self._store.run(commands.jobs(self._keys, ids)) if ids else []
            jobs = {job.id: job for job in found if job is not None}
            for job_id, span in ended:
                if job_id in jobs:
                    job = jobs[job_id]
                    self.view.ledger.charge((job.team, job.user), job.request.milli / WHOLE_GPU, *span)
            cursor = entries[-1].id
            if not before(cursor, self.cursor):
                return

    def usage(self, now_s: float) -> Usage:
        """Return what has been used as of the last entry that was followed."""
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
        known = self.records.get(job_id)
        job = self.view.jobs.get(job_id) or (entry.job() if entry.kind == Submitted.__struct_config__.tag else None)
        if job is None or (known is not None and known.rev >= entry.rev):
            return  # ended since, or our own commit come back
        record = entry.record()
        self.put(job, record)
        changes.decide |= entry.kind in REASONS_TO_DECIDE
        if isinstance(record.phase, Stopping) or (
            isinstance(record.phase, Running) and len(record.phase.allocation.shares) > 1
        ):
            changes.tell[job_id] = record
        else:
            changes.tell.pop(job_id, None)

    def _follow_node(self, entry: Entry, changes: Changes) -> None:
        name = NodeName(entry.node)
        before = self.view.nodes.get(name)
        changes.decide = True
        if entry.kind == "node_left":
            self.view.remove_node(name)
            return
        if entry.kind == "node_joined":
            node = codec.read_node(entry.value)
            if before is not None:
                node = replace(node, cordoned=before.cordoned)
                if before.incarnation != node.incarnation:
                    changes.restarted.append((name, before.incarnation))
        elif before is not None:
            node = replace(before, cordoned=entry.value.decode())
        else:
            return
        self.view.put_node(node)

    def stranded(self) -> list[tuple[JobId, Record]]:
        """Return reservations on incarnations that are no more: nobody will claim them."""
        current = {name: node.incarnation for name, node in self.view.nodes.items()}
        found = {}
        for _, job_id, share in self.view.holders():
            record = self.records[job_id]
            if isinstance(record.phase, Reserved) and current.get(share.node) != share.incarnation:
                found[job_id] = record
        return sorted(found.items())


def before(one: str, other: str) -> bool:
    """Return whether entry id *one* comes before *other*."""
    return _order(one) < _order(other)


def _order(entry_id: str) -> tuple[int, int]:
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number)


def _ended_span(entry: Entry, until: str) -> tuple[float, float] | None:
    """Return from when to when the attempt ran that *entry* ended; None if it ended none, or comes after *until*."""
    if entry.kind not in ENDED or before(until, entry.id):
        return None
    phase = entry.record().phase
    if isinstance(phase, Ended):
        return None if phase.started_s is None else (phase.started_s, phase.ended_s)
    last = phase.past[-1] if phase.past else None
    return None if last is None or last.started_s is None else (last.started_s, last.ended_s)
