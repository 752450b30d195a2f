"""Pending jobs, grouped so that a pass need not look at each of them.

Jobs that ask for the same thing share an `Ask`: one refusal speaks for all. Jobs of one owner and class form a `Queue`,
and those of them with the same ask a `Lane`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from msgspec import Struct
from sortedcontainers import SortedDict, SortedList

from shunter.domain.ids import JobId, NodeName
from shunter.domain.job import PRIORITY_RANK, Job, Request
from shunter.domain.phase import Queued
from shunter.domain.retry import AVOID_FOR_S
from shunter.scheduling.estimate import said_s
from shunter.scheduling.parts import job_key
from shunter.scheduling.policy import Policy
from shunter.scheduling.usage import Owner


class Pending(Struct, frozen=True, gc=False):
    """A job that waits, as order sees it. *said_s*: how long it runs, if anybody said (else inf)."""

    job: Job
    phase: Queued
    said_s: float


class AskKey(NamedTuple):
    rank: int
    request: Request
    avoid: frozenset[NodeName]


class Ask:
    """What pending jobs of one class ask for: compared by identity. *ids* are those jobs, *lengths* are how long they
    are said to run, *since* is when they joined the queue (wall clock). *bit* is a power of two of its own, so that
    sets of asks are numbers. *territory*: see there."""

    __slots__ = ("avoid", "bit", "ids", "lengths", "rank", "request", "since", "territory")

    def __init__(self, key: AskKey, bit: int) -> None:
        self.rank, self.request, self.avoid = key
        self.bit = bit
        self.territory: Any = None
        self.ids: SortedList[JobId] = SortedList()
        self.lengths: SortedList[float] = SortedList()
        self.since: SortedList[float] = SortedList()

    @property
    def count(self) -> int:
        return len(self.ids)

    def add(self, jobs: Collection[Pending]) -> None:
        self.ids.update([pending.job.id for pending in jobs])
        self.lengths.update([pending.said_s for pending in jobs])
        self.since.update([pending.phase.since_s for pending in jobs])

    def remove(self, pending: Pending) -> None:
        self.ids.remove(pending.job.id)
        self.lengths.remove(pending.said_s)
        self.since.remove(pending.phase.since_s)


JobKey = tuple[Any, ...]
"""What orders the jobs of a queue: the policy's keys of a job, then its id."""


class Lane:
    """Jobs of one owner with one ask, in order."""

    __slots__ = ("_by_length", "ask", "jobs")

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.jobs: SortedDict[JobKey, Pending] = SortedDict()
        self._by_length: SortedDict[tuple[float, JobId], JobKey] | None = None

    @property
    def by_length(self) -> SortedDict[tuple[float, JobId], JobKey]:
        """Their keys, shortest first: from the first time that anybody asks, for most lanes are never asked."""
        if self._by_length is None:
            jobs = self.jobs.items()
            self._by_length = SortedDict({(pending.said_s, pending.job.id): key for key, pending in jobs})
        return self._by_length

    def add(self, jobs: Mapping[JobKey, Pending]) -> None:
        self.jobs.update(jobs)
        if self._by_length is not None:
            self._by_length.update({(pending.said_s, pending.job.id): key for key, pending in jobs.items()})

    def remove(self, key: JobKey) -> Pending:
        pending: Pending = self.jobs.pop(key)
        if self._by_length is not None:
            del self._by_length[pending.said_s, pending.job.id]
        return pending


class Queue:
    """Jobs of one owner and class. `heads` has its lanes, in the order of their first jobs; `bits` are those of their
    asks."""

    __slots__ = ("_first", "_in_order", "bits", "heads", "lanes", "owner", "rank")

    def __init__(self, rank: int, owner: Owner) -> None:
        self.rank = rank
        self.owner = owner
        self.bits = 0
        self.lanes: dict[Ask, Lane] = {}
        self.heads: SortedDict[JobKey, Lane] = SortedDict()
        self._first: tuple[JobKey, Pending] | None = None
        self._in_order: list[tuple[JobKey, Lane]] = []

    @property
    def first(self) -> tuple[JobKey, Pending]:
        """Its first job: most queues stay as they are from pass to pass."""
        if self._first is None:
            key, lane = self.heads.peekitem(0)
            self._first = key, lane.jobs[key]
        return self._first

    @property
    def in_order(self) -> list[tuple[JobKey, Lane]]:
        """`heads` as a list."""
        if not self._in_order:
            self._in_order = list(self.heads.items())
        return self._in_order

    def changed(self) -> None:
        """`heads` has changed."""
        self._first, self._in_order = None, []


class Lanes:
    """All pending jobs whose time has come. Owners are told apart only where the policy's order asks who they are."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._by_owner = "fair-share" in policy.order
        self._key = job_key(policy.order)
        self._lane_of: dict[JobId, tuple[Queue, Lane, JobKey]] = {}
        self._bits: list[int] = []
        """Those of asks that are gone: numbers stay as small as there are asks at one time."""
        self.asks: dict[AskKey, Ask] = {}
        self.queues: dict[tuple[int, Owner], Queue] = {}

    def __len__(self) -> int:
        return len(self._lane_of)

    def __contains__(self, job_id: JobId) -> bool:
        return job_id in self._lane_of

    def add(self, jobs: Iterable[tuple[Job, Queued]], *, forgiven: bool = False) -> None:
        """Let *jobs* join: many at once for less than one by one, for each lane is sorted once.

        *forgiven*: they may return to the nodes that just failed them.
        """
        joining: dict[Lane, tuple[Queue, dict[JobKey, Pending]]] = {}
        asked: dict[Ask, list[Pending]] = {}
        for job, phase in jobs:
            queue, lane = self._lane(job, frozenset() if forgiven else avoided(phase))
            pending = Pending(job, phase, said_s(job, self._policy))
            key = (*self._key(pending), job.id)
            joining.setdefault(lane, (queue, {}))[1][key] = pending
            asked.setdefault(lane.ask, []).append(pending)
            self._lane_of[job.id] = queue, lane, key
        for lane, (queue, members) in joining.items():
            head = lane.jobs.peekitem(0)[0] if lane.jobs else None
            lane.add(members)
            first = min(members)
            if head is None or first < head:
                if head is not None:
                    del queue.heads[head]
                queue.heads[first] = lane
                queue.changed()
        for ask, pending_jobs in asked.items():
            ask.add(pending_jobs)

    def _lane(self, job: Job, avoid: frozenset[NodeName]) -> tuple[Queue, Lane]:
        """Return where *job* belongs, which may be new."""
        rank = PRIORITY_RANK[job.priority]
        owner = (job.team, job.user) if self._by_owner else ("", "")
        asked = AskKey(rank, job.request, avoid)
        ask = self.asks.get(asked)
        if ask is None:
            ask = self.asks[asked] = Ask(asked, self._bits.pop() if self._bits else 1 << len(self.asks))
        queue = self.queues.get((rank, owner))
        if queue is None:
            queue = self.queues[rank, owner] = Queue(rank, owner)
        lane = queue.lanes.get(ask)
        if lane is None:
            lane = queue.lanes[ask] = Lane(ask)
            queue.bits |= ask.bit
        return queue, lane

    def remove(self, job_id: JobId) -> None:
        found = self._lane_of.pop(job_id, None)
        if found is None:
            return
        queue, lane, key = found
        pending = lane.remove(key)
        if queue.heads.pop(key, None) is not None:
            if lane.jobs:
                queue.heads[lane.jobs.peekitem(0)[0]] = lane
            queue.changed()
        ask = lane.ask
        ask.remove(pending)
        if not lane.jobs:
            del queue.lanes[ask]
            queue.bits &= ~ask.bit
            if not queue.lanes:
                del self.queues[queue.rank, queue.owner]
        if not ask.ids:
            del self.asks[AskKey(ask.rank, ask.request, ask.avoid)]
            self._bits.append(ask.bit)

    def pending(self) -> Iterator[Pending]:
        """Every job, in no order that means anything."""
        for queue in self.queues.values():
            for lane in queue.lanes.values():
                yield from lane.jobs.values()


def avoided(phase: Queued) -> frozenset[NodeName]:
    """Return the nodes that just failed the job, which it avoids until `forgiven_s`."""
    last: Iterable[NodeName] = phase.past[-1].nodes if phase.past else ()
    return frozenset(last)


def forgiven_s(phase: Queued) -> float:
    """Return from when on (wall clock) a job may return to the nodes that failed it."""
    return max(phase.since_s, phase.not_before_s) + AVOID_FOR_S
