"""A cluster for the scheduler alone, on a virtual clock: full, with a long queue, and with something happening.

Nothing of Shunter runs here but the core (`View` and `cycle()`), so times are those of the code that decides. Every
number is drawn from the seed: 50 shapes of which a few are frequent, as in known traces, 200 users in 20 teams of whom
a few submit most, run times over four orders of magnitude, and round time limits for most jobs.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from itertools import accumulate, count
from random import Random
from typing import Final, TypeVar

from shunter.domain.ids import AllocationId, Incarnation, JobId, NodeName
from shunter.domain.job import Job, Priority, Request
from shunter.domain.node import Gpu, Node
from shunter.domain.outcome import Outcome, Result
from shunter.domain.phase import Allocation, Ended, Queued, Running
from shunter.scheduling.plan import Placement
from shunter.scheduling.policy import Policy
from shunter.scheduling.view import View

GPUS: Final = 8
CPUS: Final = 128
MEMORY_MIB: Final = 1_024 * 1_024
GPU_MIB: Final = 81_920
NODES_OF_RACK: Final = 32
TEAMS: Final = 20
USERS_OF_TEAM: Final = 10
LIMITS_S: Final = (1_800, 3_600, 7_200, 14_400, 28_800, 86_400, 172_800)
WIDTHS: Final = {(1, 1): 50, (2, 1): 12, (4, 1): 12, (8, 1): 16, (8, 2): 5, (8, 4): 3, (8, 8): 1, (4, 4): 1}
"""(GPUs of a node, nodes), and how often."""

MEDIAN_S: Final = 1_800.0
SPREAD: Final = 1.8
CLASSES: Final = {Priority.HIGH: 15, Priority.MEDIUM: 60, Priority.LOW: 25}
SUCCEEDED: Final = Outcome(Result.SUCCEEDED, 0)

Choice = TypeVar("Choice")


def shapes(how_many: int, random: Random) -> list[tuple[Priority, Request]]:
    """Return *how_many* different classes and requests."""
    found: dict[tuple[Priority, Request], None] = {}
    while len(found) < how_many:
        (gpus, nodes), share = _drawn(WIDTHS, random), random.random()
        cpus, memory_mib = random.choice((1, 4, 8, 12, 16)) * gpus, random.choice((8, 32, 64, 128)) * 1_024 * gpus
        milli = random.choice((100, 250, 500)) if gpus == nodes == 1 and share < 0.2 else 1_000
        found[_drawn(CLASSES, random), Request(gpus, nodes, cpus, memory_mib, milli)] = None
    return list(found)


def fleet(nodes: int) -> list[Node]:
    """Return *nodes* nodes of 8 GPUs, 32 to a rack."""
    return [
        Node(
            NodeName(f"n{number:05}"),
            Incarnation("1"),
            tuple(Gpu(index, "H100", f"{number}/{index}", GPU_MIB) for index in range(GPUS)),
            CPUS,
            MEMORY_MIB,
            joined_s=0.0,
            rack=f"r{number // NODES_OF_RACK}",
        )
        for number in range(nodes)
    ]


class World:
    """A cluster of *nodes* and those who submit to it. Events change `view`; whoever watches runs the cycles."""

    def __init__(self, nodes: Sequence[Node], policy: Policy, how_many_shapes: int, seed: int) -> None:
        self.random = Random(seed)
        self._shapes = shapes(how_many_shapes, self.random)
        self._often = list(accumulate(1 / rank for rank in range(1, how_many_shapes + 1)))
        self._users = [(f"team{team}", f"user{team}.{user}") for user in range(USERS_OF_TEAM) for team in range(TEAMS)]
        self._active = list(accumulate(1 / rank for rank in range(1, len(self._users) + 1)))
        self._ids = count(1)
        self._allocations = count(1)
        self._ends: list[tuple[float, JobId]] = []
        self._nodes = nodes
        self.now_s = 1_000_000.0
        self.view = self._empty(policy)

    def _empty(self, policy: Policy) -> View:
        view = View(policy)
        view.put_nodes(self._nodes)
        return view

    def new_job(self) -> Job:
        """Return the next job, submitted now."""
        random = self.random
        ((priority, request),) = random.choices(self._shapes, cum_weights=self._often)
        ((team, user),) = random.choices(self._users, cum_weights=self._active)
        limit_s = random.choice(LIMITS_S) if random.random() < 0.7 else None
        return Job(JobId(next(self._ids)), "job", user, request, self.now_s, priority, team, limit_s)

    def submit(self, job: Job) -> None:
        self.view.put_job(job, Queued(self.now_s))

    def start(self, placements: Sequence[Placement]) -> int:
        """Let what was decided run, and return how many jobs; when each will end is drawn now."""
        for placement in placements:
            job = self.view.jobs[placement.job_id]
            allocation = Allocation(AllocationId(f"1.{next(self._allocations)}"), placement.shares)
            self.view.put_job(job, Running(1, allocation, self.now_s))
            runs_s = self.random.lognormvariate(0, SPREAD) * MEDIAN_S
            heapq.heappush(self._ends, (self.now_s + min(runs_s, job.time_limit_s or runs_s), job.id))
        return len(placements)

    def next_end(self) -> JobId:
        """Go to the moment in which the next job ends, and return which; `end` ends it."""
        self.now_s, job_id = heapq.heappop(self._ends)
        return job_id

    def end(self, job_id: JobId) -> None:
        phase = self.view.phases[job_id]
        assert isinstance(phase, Running)
        self.view.put_job(self.view.jobs[job_id], Ended(SUCCEEDED, self.now_s, started_s=phase.started_s))

    def rebuilt(self) -> View:
        """Return the same cluster in a view of its own, as a new leader reads it from the store."""
        view = self._empty(self.view.policy)
        view.put_jobs((job, self.view.phases[job_id]) for job_id, job in self.view.jobs.items())
        return view


def _drawn(weights: Mapping[Choice, int], random: Random) -> Choice:
    return random.choices(list(weights), list(weights.values()))[0]
