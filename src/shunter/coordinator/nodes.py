"""The leader's watch over nodes: who is silent, who is lost, and what happens to the jobs of a lost one.

The rules are `domain.lease`'s; here they are fed from the store, and carried out in it.
"""

from __future__ import annotations

import time

import structlog
from msgspec.structs import replace

from shunter.coordinator.follower import Follower
from shunter.domain.ids import JobId, NodeName
from shunter.domain.job import Job
from shunter.domain.lease import NORMAL, Check, Standing, Watch, fastest
from shunter.errors import StaleLeader
from shunter.runtime.log import Complaint
from shunter.runtime.process import boot_time_s
from shunter.store import commands, leases, lenient
from shunter.store.codec import Record
from shunter.store.commands import Leadership
from shunter.store.keys import Keys
from shunter.store.leases import Seen
from shunter.store.lenient import Unreadable
from shunter.store.redis import Store

log = structlog.get_logger("coordinator")


class StoreChanged(Exception):
    """Another server serves the store than before, which may not have the last that was written: read all anew."""


class NodeWatch:
    """Begun anew with each leadership: what an earlier leader saw counts for nothing."""

    def __init__(self, store: Store, keys: Keys, leadership: Leadership, name: str) -> None:
        self._store = store
        self._keys = keys
        self._leadership = leadership
        self._name = name
        self._watch = Watch(NORMAL)
        self._said: dict[NodeName, Standing] = {}
        self._complaint = Complaint()
        self.behind: frozenset[NodeName] = frozenset()
        """Nodes that have not obeyed an answer since the store began to run: nothing may be placed until they have."""

    @property
    def run_id(self) -> str:
        """The run of the store that was watched last."""
        return self._watch.run_id

    def check(self, follower: Follower) -> bool:
        """Look at all nodes, and take the jobs of lost ones off them. Return whether a pass may find something new.

        Raises StoreChanged.
        """
        seen = self._store.run(leases.watch(self._keys))
        now_s = boot_time_s()  # after the answer: every renewal in it was written before
        if self.run_id != seen.run_id and self._store.route.replicated:
            if self.run_id:
                raise StoreChanged
            answer = self._store.run(leases.advance(self._keys, self._leadership, seen.run_id))
            self._must(answer != "stale")
            log.info("serves the store", run_id=seen.run_id, numbers_jumped=answer == "ok")
        watch = replace(
            self._watch, terms=fastest(seen.terms.values()), ready_run=self._watch.ready_run or seen.ready_run
        )
        self._watch, found = watch.check(now_s, seen.run_id, seen.marks, seen.unfenced, seen.terms)
        if self._watch.ready_run != seen.ready_run and not found.behind:
            self._must(self._store.run(leases.ready(self._keys, self._leadership, seen.run_id)))
        caught_up = bool(self.behind) and not found.behind
        if found.behind != self.behind:
            log.info("nodes that have yet to catch up with the store", nodes=sorted(found.behind))
        self.behind = found.behind
        self._say(found)
        for node in found.lost:
            self._lose(node, found.silent_s[node], seen, follower)
        return self._silence(seen, follower) or caught_up or bool(found.lost)

    def _silence(self, seen: Seen, follower: Follower) -> bool:
        """Close nodes that do not renew; return whether that changed."""
        view = follower.view
        silent = frozenset(node for node in view.nodes if seen.is_silent(node) or node not in seen.marks)
        changed = silent != view.silent
        if changed:
            log.info("silent nodes", nodes=sorted(silent))
        view.set_silent(silent)
        return changed

    def _say(self, found: Check) -> None:
        """Log a node that would be lost but is not, once."""
        for node, standing in found.standing.items():
            if standing in (Standing.UNFENCED, Standing.ALL_SILENT) and self._said.get(node) is not standing:
                log.warning("a silent node keeps its jobs", node=node, why=standing, silent_s=found.silent_s[node])
        self._said = found.standing

    def _lose(self, node: NodeName, silent_s: float, seen: Seen, follower: Follower) -> None:
        why = f"node {node} was lost: silent for {silent_s:.0f} s"
        ids = self._store.run(commands.held(self._keys, node))
        found = self._read(ids)
        unread = [job_id for job_id, pair in zip(ids, found, strict=True) if pair is None]
        if unread and self._complaint.due(f"{node} {unread[0]}"):
            log.error("a node is lost, but one of its jobs cannot be read", node=node, job=unread[0])
        if unread:
            return
        pairs = [pair for pair in found if pair is not None]
        moves = leases.moves_of_lost(pairs, node, why, at_s=time.time(), by=self._name)
        stands = {"run_id": seen.run_id, "renewal": seen.written[node]}
        answer = self._store.run(leases.lose(self._keys, self._leadership, node, why, len(ids), moves, **stands))
        self._must(answer != "stale")
        log.warning("node lost", node=node, silent_s=round(silent_s, 1), jobs=len(ids), answer=answer)
        if answer == "ok":
            for made in moves:
                job = follower.view.jobs.get(made.job_id)
                if job is not None:
                    follower.put(job, made.after)

    def _read(self, ids: list[JobId]) -> list[tuple[Job | None, Record | None] | None]:
        """Return the jobs *ids* and where they are; None for what cannot be read."""
        if not ids:
            return []
        jobs, records = self._store.run_all(lenient.jobs(self._keys, ids), lenient.records(self._keys, ids))
        return [
            None if isinstance(job, Unreadable) or isinstance(record, Unreadable) else (job, record)
            for job, record in zip(jobs, records, strict=True)
        ]

    def _must(self, leads: bool) -> None:
        if not leads:
            raise StaleLeader(f"leader: epoch {self._leadership.epoch} is over")
