"""The packing protocol of Weng et al. (ATC'23, section 6): how much of a cluster can be given away before it is full?

Jobs arrive in random order and never leave; when the list is used up, jobs are drawn from it again, until what was
requested is 130 % of the GPUs. A job that fits nowhere when it arrives is dropped. The outcome is the share of GPUs
that is allocated once a given share has been requested; in a perfect world the two are equal up to 100 %.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from shunter.domain.event import Placed
from shunter.domain.ids import AllocationId, JobId
from shunter.domain.job import WHOLE_GPU, Job
from shunter.domain.node import Node
from shunter.domain.outcome import Outcome, Result
from shunter.domain.phase import Allocation, Ended, Queued
from shunter.domain.transition import apply
from shunter.scheduling.cycle import cycle
from shunter.scheduling.policy import Policy
from shunter.scheduling.view import View
from shunter.sim.result import TraceJob

UNTIL: Final = 1.3
"""Requested GPUs over all GPUs when the run ends."""
STEPS: Final = tuple(percent / 100 for percent in range(5, 131, 5))
"""Shares of requested GPUs at which the allocated share is read."""


class Packing(Struct, frozen=True):
    """One run: *allocated* GPUs over all GPUs, at each of `STEPS` of requested ones. *dropped* jobs fitted nowhere."""

    policy: str
    ties: str
    seed: int
    allocated: tuple[float, ...]
    jobs: int
    dropped: int

    def at(self, requested: float) -> float:
        """Return the allocated share when the share *requested*, one of `STEPS`, had been requested."""
        return self.allocated[STEPS.index(requested)]


def pack(
    name: str,
    jobs: Sequence[TraceJob],
    nodes: Sequence[Node],
    policy: Policy,
    seed: int,
    *,
    progress: Callable[[float], object] | None = None,
) -> Packing:
    """Return how *policy*, called *name*, packs *jobs* in the order that *seed* gives. Nodes without GPUs are left out.

    *progress* is told the share requested so far, now and then.
    """
    view = View(replace(policy, seed=seed))
    view.put_nodes([node for node in nodes if node.gpus])
    capacity = WHOLE_GPU * sum(node.usable_gpus for node in view.nodes.values())
    allocated: list[float] = []
    requested = held = dropped = count = 0
    for job in _arrivals(jobs, capacity, seed):
        count += 1
        requested += job.request.milli
        if _place(view, job, float(count)):
            held += job.request.milli
        else:
            dropped += 1
        while len(allocated) < len(STEPS) and requested >= STEPS[len(allocated)] * capacity:
            allocated.append(held / capacity)
        if progress is not None and count % 100 == 0:
            progress(requested / capacity)
    return Packing(name, policy.ties, seed, tuple(allocated), count, dropped)


def _arrivals(jobs: Sequence[TraceJob], capacity: int, seed: int) -> Iterator[Job]:
    """Yield jobs with ids of their own until enough has been requested."""
    draw = random.Random(seed)
    order = list(jobs)
    draw.shuffle(order)
    requested, number = 0, 0
    while requested < UNTIL * capacity:
        trace = order[number] if number < len(order) else draw.choice(order)
        number += 1
        requested += trace.job.request.milli
        yield replace(trace.job, id=JobId(number))


def _place(view: View, job: Job, now_s: float) -> bool:
    """Let *job* arrive; return whether it was placed. If not, it is gone."""
    waiting = Queued(now_s)
    view.put_job(job, waiting)
    found = cycle(view, now_s)
    assert not found.violations, found.violations
    if not found.placements:
        view.put_job(job, Ended(Outcome(Result.CANCELLED), now_s))
        return False
    allocation = Allocation(AllocationId(f"1.{job.id}"), found.placements[0].shares)
    view.put_job(job, apply(waiting, Placed(now_s, "simulator", allocation)))
    return True
