"""The cluster as the scheduler sees it: a snapshot that is kept up to date change by change.

Whatever makes `decide()` fast lives here (free sets per node, pending jobs grouped by class and shape), so that the
cost of a pass follows what changed and what can be placed, not the length of the queue. `decide()` only reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from msgspec import Struct
from sortedcontainers import SortedDict

from shunter.domain.ids import JobId, NodeName
from shunter.domain.job import PRIORITY_RANK, Job, Request
from shunter.domain.node import Node
from shunter.domain.phase import HOLDS_GPUS, Ended, NodeShare, Phase, Queued


class Group(NamedTuple):
    """Pending jobs that are alike for the scheduler: one refusal in a pass speaks for all of them."""

    rank: int
    request: Request
    avoid: frozenset[NodeName]


class Pending(NamedTuple):
    """A job that waits, as order sees it: first come, first served within a class."""

    job: Job
    phase: Queued


class Free(Struct):
    """What is unheld on a node. *gpus* are the indexes of healthy devices that nobody holds."""

    gpus: set[int]
    cpus: int
    memory_mib: int

    def fits(self, request: Request) -> bool:
        return (
            len(self.gpus) >= request.gpus_per_node
            and self.cpus >= request.cpus
            and self.memory_mib >= request.memory_mib
        )

    def copy(self) -> Free:
        return Free(set(self.gpus), self.cpus, self.memory_mib)

    def take(self, share: NodeShare) -> None:
        self.gpus.difference_update(share.gpus)
        self.cpus -= share.cpus
        self.memory_mib -= share.memory_mib


class View:
    """Jobs, nodes and what is free. Change it only through its methods; each is O(log of what it touches)."""

    def __init__(self) -> None:
        self.jobs: dict[JobId, Job] = {}
        self.phases: dict[JobId, Phase] = {}
        self.nodes: dict[NodeName, Node] = {}
        self.silent: frozenset[NodeName] = frozenset()
        self.free: dict[NodeName, Free] = {}
        self.held: dict[NodeName, dict[JobId, NodeShare]] = {}
        self.groups: dict[Group, SortedDict[JobId, Pending]] = {}
        self.delayed: SortedDict[tuple[float, JobId], None] = SortedDict()
        self._group_of: dict[JobId, Group] = {}

    # jobs

    def put_job(self, job: Job, phase: Phase) -> None:
        """Record that *job* is now in *phase*; an ended job is forgotten."""
        self._leave(job.id)
        if isinstance(phase, Ended):
            self.jobs.pop(job.id, None)
            self.phases.pop(job.id, None)
            return
        self.jobs[job.id] = job
        self.phases[job.id] = phase
        if isinstance(phase, Queued):
            if phase.not_before_s > 0:
                self.delayed[phase.not_before_s, job.id] = None
            else:
                self._enqueue(job, phase)
        else:
            for share in phase.allocation.shares:
                self.held.setdefault(share.node, {})[job.id] = share
                if share.node in self.free:
                    self.free[share.node].take(share)

    def advance(self, now_s: float) -> None:
        """Let delayed retries whose time has come join the queue."""
        while self.delayed:
            (not_before_s, job_id), _ = self.delayed.peekitem(0)
            if not_before_s > now_s:
                return
            del self.delayed[not_before_s, job_id]
            phase = self.phases[job_id]
            assert isinstance(phase, Queued)
            self._enqueue(self.jobs[job_id], phase)

    def _enqueue(self, job: Job, phase: Queued) -> None:
        avoid = frozenset(node for past in phase.past[-1:] for node in past.nodes)
        group = Group(PRIORITY_RANK[job.priority], job.request, avoid)
        self.groups.setdefault(group, SortedDict())[job.id] = Pending(job, phase)
        self._group_of[job.id] = group

    def _leave(self, job_id: JobId) -> None:
        phase = self.phases.get(job_id)
        if isinstance(phase, Queued):
            self.delayed.pop((phase.not_before_s, job_id), None)
            group = self._group_of.pop(job_id, None)
            if group is not None:
                del self.groups[group][job_id]
                if not self.groups[group]:
                    del self.groups[group]
        elif isinstance(phase, HOLDS_GPUS):
            for name in phase.allocation.nodes:
                self.held[name].pop(job_id, None)
                self._recount(name)

    # nodes

    def put_node(self, node: Node) -> None:
        """Record that *node* joined or changed."""
        self.nodes[node.name] = node
        self.held.setdefault(node.name, {})
        self._recount(node.name)

    def remove_node(self, name: NodeName) -> None:
        self.nodes.pop(name, None)
        self.free.pop(name, None)

    def _recount(self, name: NodeName) -> None:
        node = self.nodes.get(name)
        if node is None:
            return
        free = Free({gpu.index for gpu in node.gpus if gpu.healthy}, node.cpus, node.memory_mib)
        for share in self.held[name].values():
            free.take(share)
        self.free[name] = free

    # questions

    def schedulable(self) -> Iterator[Node]:
        """Nodes that take new work: neither cordoned nor silent."""
        for node in self.nodes.values():
            if not node.cordoned and node.name not in self.silent:
                yield node

    @property
    def pending(self) -> int:
        return sum(len(group) for group in self.groups.values()) + len(self.delayed)

    def holders(self) -> Iterable[tuple[NodeName, JobId, NodeShare]]:
        for name, shares in self.held.items():
            for job_id, share in shares.items():
                yield name, job_id, share
