"""The leader's view of the cluster: read from the store once, then kept up to date from the event stream."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from shunter.domain.event import Submitted
from shunter.domain.ids import JobId, NodeName
from shunter.domain.job import Job
from shunter.domain.phase import Ended, Reserved, Running, Stopping
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

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self.view = View()
        self.records: dict[JobId, Record] = {}
        self.cursor = "0-0"

    def rebuild(self) -> None:
        """Read everything. What changes meanwhile comes again through the stream, for the cursor is read first."""
        keys = self._keys
        self.view, self.records = View(), {}
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
