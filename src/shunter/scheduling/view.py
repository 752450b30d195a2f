"""The cluster as the scheduler sees it: a snapshot that is kept up to date change by change.

Whatever makes `decide()` fast lives here (nodes by what is free on them, pending jobs by what they ask for, use by
owner), so that the cost of a pass follows what changed and what can be placed, not the length of the queue. It is made
for one policy; `decide()` only reads it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from sortedcontainers import SortedDict

from shunter.domain.ids import JobId, NodeName
from shunter.domain.job import WHOLE_GPU, Job
from shunter.domain.node import Node
from shunter.domain.phase import HOLDS_GPUS, Ended, HoldsGpus, NodeShare, Phase, Queued
from shunter.scheduling.estimate import start_of
from shunter.scheduling.free import Free, Profile
from shunter.scheduling.lanes import Lanes, avoided, forgiven_s
from shunter.scheduling.mix import Mix
from shunter.scheduling.policy import Policy
from shunter.scheduling.pools import assign
from shunter.scheduling.shelves import Kind, Ref, Shelf, kind_of
from shunter.scheduling.usage import Ledger


class Fleet:
    """Which nodes take work, and of which kinds, as an identity: nodes that come, go or change kind make a new one.

    What was worked out for a fleet is kept with it. *same*: equal tuples of kinds, as one object, so that what is found
    out about one in a pass is found out once.
    """

    __slots__ = ("same", "scorer", "soonest")

    def __init__(self) -> None:
        self.same: dict[Any, Any] = {}
        self.scorer: Any = None
        self.soonest: dict[Any, Any] = {}


class Changes:
    """On which nodes something started or ended, in that order. *count* numbers the changes from 1 on."""

    def __init__(self) -> None:
        self.count = 0
        self._last: dict[NodeName, int] = {}

    def note(self, name: NodeName) -> None:
        self.count += 1
        self._last.pop(name, None)
        self._last[name] = self.count

    def forget(self, name: NodeName) -> None:
        self._last.pop(name, None)

    def since(self, count: int) -> Iterator[NodeName]:
        """Yield the nodes that changed after change number *count*, each once, the latest first."""
        for name, number in reversed(self._last.items()):
            if number <= count:
                return
            yield name


class View:
    """Jobs, nodes and what is free. Change it only through its methods; each is O(log of what it touches)."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.jobs: dict[JobId, Job] = {}
        self.phases: dict[JobId, Phase] = {}
        self.lanes = Lanes(policy)
        self.delayed: SortedDict[tuple[float, JobId], None] = SortedDict()
        self.avoiding: SortedDict[tuple[float, JobId], None] = SortedDict()
        """Jobs in the queue that still avoid the nodes which just failed them, by until when."""
        self.ledger = Ledger(policy)
        self.mix = Mix()
        self.nodes: dict[NodeName, Node] = {}
        self.silent: frozenset[NodeName] = frozenset()
        self.pools: dict[NodeName, str] = {}
        self.free: dict[NodeName, Free] = {}
        self.held: dict[NodeName, dict[JobId, NodeShare]] = {}
        self.shelves: dict[Kind, Shelf] = {}
        self._kinds: dict[Kind, Kind] = {}
        """Equal kinds as one object: looked up by identity, they need no comparison."""
        self.places: dict[NodeName, tuple[Kind, Ref, Profile]] = {}
        """Where on the shelves each schedulable node stands."""
        self.changes = Changes()
        self.notes: dict[NodeName, Any] = {}
        """What was worked out about a node as it is now; forgotten when something starts or ends there, and with the
        fleet."""
        self.fleet = Fleet()

    # jobs

    def put_job(self, job: Job, phase: Phase) -> None:
        """Record that *job* is now in *phase*; an ended job is forgotten, but for its use."""
        self.put_jobs(((job, phase),))

    def put_jobs(self, jobs: Iterable[tuple[Job, Phase]]) -> None:
        """As `put_job`, of many: a long queue is read in a fraction of the time."""
        joining: dict[JobId, tuple[Job, Queued]] = {}
        for job, phase in jobs:
            before = self.phases.get(job.id)
            if isinstance(before, HOLDS_GPUS) and isinstance(phase, HOLDS_GPUS) and _same_hold(before, phase):
                self.phases[job.id] = phase
                continue
            joining.pop(job.id, None)
            self._leave(job.id, before, phase)
            if self._is_now(job, before, phase):
                assert isinstance(phase, Queued)
                joining[job.id] = job, phase
        self._join(joining.values())

    def _is_now(self, job: Job, before: Phase | None, phase: Phase) -> bool:
        """Record where *job* is, which was *before*; return whether it joins the queue."""
        if isinstance(phase, Ended):
            self.jobs.pop(job.id, None)
            self.phases.pop(job.id, None)
            return False
        if before is None:
            self.mix.add(job.request)
        self.jobs[job.id] = job
        self.phases[job.id] = phase
        if not isinstance(phase, Queued):
            self._hold(job, phase)
        elif phase.not_before_s > 0:
            self.delayed[phase.not_before_s, job.id] = None
        else:
            return True
        return False

    def _join(self, jobs: Collection[tuple[Job, Queued]]) -> None:
        self.lanes.add(jobs)
        for job, phase in jobs:
            if avoided(phase):
                self.avoiding[forgiven_s(phase), job.id] = None

    def advance(self, now_s: float) -> None:
        """Let delayed retries whose time has come join the queue, and forgive nodes that failed jobs a while ago."""
        self._join(self._due(self.delayed, now_s))
        forgiven = self._due(self.avoiding, now_s)
        for job, _ in forgiven:
            self.lanes.remove(job.id)
        self.lanes.add(forgiven, forgiven=True)

    def _due(self, when: SortedDict[tuple[float, JobId], None], now_s: float) -> list[tuple[Job, Queued]]:
        """Take the jobs out of *when* whose time has come."""
        due = []
        while when and when.peekitem(0)[0][0] <= now_s:
            (_, job_id), _ = when.popitem(0)
            phase = self.phases[job_id]
            assert isinstance(phase, Queued)
            due.append((self.jobs[job_id], phase))
        return due

    @property
    def due_s(self) -> float:
        """When (wall clock) `advance` will next change something."""
        return min((when.peekitem(0)[0][0] for when in (self.delayed, self.avoiding) if when), default=math.inf)

    def _hold(self, job: Job, phase: HoldsGpus) -> None:
        self.ledger.hold((job.team, job.user), job.request.milli / 1000, start_of(phase))
        for share in phase.allocation.shares:
            self.held.setdefault(share.node, {})[job.id] = share
            if share.node in self.free:
                self.free[share.node].take(share)
                self._reshelve(share.node)

    def _leave(self, job_id: JobId, before: Phase | None, after: Phase) -> None:
        if before is None:
            return
        job = self.jobs[job_id]
        if isinstance(after, Ended):
            self.mix.remove(job.request)
        if isinstance(before, Queued):
            self.delayed.pop((before.not_before_s, job_id), None)
            self.avoiding.pop((forgiven_s(before), job_id), None)
            self.lanes.remove(job_id)
        elif isinstance(before, HOLDS_GPUS):
            owner, gpus = (job.team, job.user), job.request.milli / 1000
            self.ledger.release(owner, gpus, start_of(before))
            ended_s = _ended_s(after)
            if ended_s is not None:
                self.ledger.charge(owner, gpus, start_of(before), ended_s)
            for share in before.allocation.shares:
                self.held[share.node].pop(job_id, None)
                if share.node in self.free:
                    self.free[share.node].give_back(share)
                    self._reshelve(share.node)

    # nodes

    def put_node(self, node: Node) -> None:
        """Record that *node* joined or changed."""
        self.put_nodes((node,))

    def put_nodes(self, nodes: Collection[Node]) -> None:
        """Record that *nodes* joined or changed: many at once, for pools are dealt over all of them."""
        for node in nodes:
            self.nodes[node.name] = node
            self.held.setdefault(node.name, {})
            self.free[node.name] = Free.of(node, self.held[node.name].values())
        self._deal_pools()
        for node in nodes:
            self._shelve(node.name)

    def remove_node(self, name: NodeName) -> None:
        self._unshelve(name)
        self.nodes.pop(name, None)
        self.free.pop(name, None)
        self._deal_pools()

    def set_silent(self, names: Iterable[NodeName]) -> None:
        """Record which nodes have not been heard of lately: they take no new work."""
        before, self.silent = self.silent, frozenset(names)
        for name in sorted(before ^ self.silent):
            if name in self.nodes:
                self._shelve(name)

    def _deal_pools(self) -> None:
        before = self.pools
        if not self.policy.pools:
            self.pools = {name: node.pool for name, node in self.nodes.items()}
            return
        self.pools = assign(self.nodes.values(), self.policy)
        for name, pool in self.pools.items():
            if name in self.free and before.get(name) != pool:
                self._shelve(name)

    def _reshelve(self, name: NodeName) -> None:
        """Bring the shelves up to date with what is free on node *name*, which is the same kind as before."""
        place = self.places.get(name)
        if place is not None:
            self.changes.note(name)
            self.notes.pop(name, None)
            kind, ref, before = place
            profile = self.free[name].profile()
            if profile != before:
                self.shelves[kind].remove(ref, before)
                self.shelves[kind].add(ref, profile)
                self.places[name] = kind, ref, profile

    def _shelve(self, name: NodeName) -> None:
        """Put node *name* where it belongs now: nowhere, if it takes no work."""
        self._unshelve(name)
        node = self.nodes[name]
        if node.cordoned or name in self.silent:
            return
        kind, ref, profile = kind_of(node, self.pools[name]), (node.joined_s, name), self.free[name].profile()
        kind = self._kinds.setdefault(kind, kind)
        if kind not in self.shelves:
            self.shelves[kind] = Shelf(kind.gpus)
        self.shelves[kind].add(ref, profile)
        self.places[name] = kind, ref, profile

    def _unshelve(self, name: NodeName) -> None:
        self.fleet = Fleet()
        self.changes.forget(name)
        self.notes.clear()  # a gang may take whole nodes now and not before, and so be thought to be short
        place = self.places.pop(name, None)
        if place is not None:
            kind, ref, profile = place
            self.shelves[kind].remove(ref, profile)
            if not self.shelves[kind].nodes:
                del self.shelves[kind], self._kinds[kind]

    # questions

    def schedulable(self) -> Iterator[Node]:
        """Nodes that take new work: neither cordoned nor silent."""
        for name in self.places:
            yield self.nodes[name]

    @property
    def pending(self) -> int:
        return len(self.lanes) + len(self.delayed)

    def holders(self) -> Iterable[tuple[NodeName, JobId, NodeShare]]:
        for name, shares in self.held.items():
            for job_id, share in shares.items():
                yield name, job_id, share

    def made_for(self, policy: Policy, now_s: float) -> View:
        """Return a view of the same cluster for *policy*, with what has been used until *now_s* (wall clock)."""
        view = View(policy)
        view.put_nodes(self.nodes.values())
        view.set_silent(self.silent)
        view.put_jobs((job, self.phases[job_id]) for job_id, job in self.jobs.items())
        view.advance(now_s)
        view.ledger.load(self.ledger.past(now_s), now_s)
        return view


def takes_whole(view: View, share: NodeShare) -> bool:
    """Return whether *share* is all of its node's GPUs, as it also is of a node that has none or that has left."""
    free = view.free.get(share.node)
    return free is None or (len(share.gpus) >= len(free.islands) and share.gpu_milli == WHOLE_GPU)


def _same_hold(before: HoldsGpus, after: HoldsGpus) -> bool:
    return before.allocation.id == after.allocation.id and start_of(before) == start_of(after)


def _ended_s(after: Phase) -> float | None:
    """Return when the attempt that led to *after* ended; None if it never started."""
    if isinstance(after, Ended):
        return after.ended_s if after.started_s is not None else None
    return after.past[-1].ended_s if after.past else None
