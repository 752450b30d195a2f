"""A trace, run through the core on a virtual clock.

Nothing is decided here: jobs are put into a `View`, each `cycle()` says what starts, and every change of a phase is a
legal transition of the same table that the store's scripts follow. At one instant, first everything ends that ends,
then everything is submitted that is, then there is one cycle. A job of no length ends in the instant in which it
starts: after that cycle, and then there is another one.
"""

from __future__ import annotations

import heapq
import math
import time
from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Final

from shunter.domain.event import Placed
from shunter.domain.ids import AllocationId, JobId
from shunter.domain.job import in_gpus
from shunter.domain.node import Node
from shunter.domain.outcome import Exit
from shunter.domain.phase import HOLDS_GPUS, LIVE, Allocation, Phase, Queued, Reserved
from shunter.domain.reason import HeldBack, InLine, NotYetSeen, Reason, render
from shunter.domain.retry import on_claim, on_exit
from shunter.domain.transition import apply
from shunter.errors import ShunterError
from shunter.scheduling.cycle import cycle
from shunter.scheduling.plan import Placement, Plan
from shunter.scheduling.policy import Policy
from shunter.scheduling.view import View
from shunter.sim.meter import Fragmentation, Meter, percentile
from shunter.sim.result import Result, Run, Share, TraceJob, Workload

BY: Final = "simulator"
PROGRESS_ENDS: Final = 256
MOST_VAIN_LOOKS: Final = 1_000
"""How often in a row a plan may ask to be made again while nothing runs and nothing comes."""


class BrokenRule(ShunterError):
    """A decision broke a rule of the core, or lets jobs wait for ever: the figures would mean nothing."""

    code = "broken_rule"


class Simulation:
    """One policy, called *name*, on one trace.

    With *keep*, every run and every moment is kept for the result. *started* is called with each run as it starts,
    *progress* now and then with how many jobs have ended.
    """

    def __init__(
        self,
        name: str,
        workload: Workload,
        nodes: Iterable[Node],
        policy: Policy,
        *,
        keep: bool = False,
        started: Callable[[Run], object] | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        self._name = name
        self._workload = workload
        self._jobs = workload.jobs
        self._progress = progress
        self._runs: list[Run] = []
        self._listeners = [*([self._runs.append] if keep else []), *([started] if started is not None else [])]
        self._view = View(policy)
        self._view.put_nodes(list(nodes))
        capacity = sum(node.usable_gpus for node in self._view.nodes.values())
        first_s, last_s = (self._jobs[0].job.submitted_s, self._jobs[-1].job.submitted_s) if self._jobs else (0.0, 0.0)
        self._meter = Meter(capacity, first_s, last_s, keep=keep)
        self._fragmentation = Fragmentation(self._view, [trace.job.request for trace in self._jobs])
        self._coming = 0
        self._ends: list[tuple[float, JobId]] = []
        self._allocations = count(1)
        self._waits = array("d")
        self._completions = array("d")
        self._ended = 0
        self._last_end_s = first_s
        self._vain_looks = 0

    def run(self) -> None:
        """Run to the end of the last job. Raises BrokenRule."""
        plan = Plan((), ())
        while (now_s := self._next_s(plan)) < math.inf:
            self._meter.advance(now_s)
            self._end_due(now_s)
            self._submit_due(now_s)
            plan = self._cycle(now_s)
        if self._view.pending:
            raise self._stuck(plan)
        self._meter.close()

    def _next_s(self, plan: Plan) -> float:
        """Return when next something ends or is submitted or, while jobs wait, *plan* could change by itself."""
        end_s = self._ends[0][0] if self._ends else math.inf
        if self._coming < len(self._jobs):
            end_s = min(end_s, self._jobs[self._coming].job.submitted_s)
        if plan.again_s is None or not self._view.pending:
            return end_s
        self._vain_looks = self._vain_looks + 1 if math.isinf(end_s) else 0
        if self._vain_looks > MOST_VAIN_LOOKS:
            return math.inf
        return min(end_s, plan.again_s)

    def _end_due(self, now_s: float) -> None:
        ends = self._ends
        while ends and ends[0][0] == now_s:
            self._end(heapq.heappop(ends)[1], now_s)

    def _submit_due(self, now_s: float) -> None:
        jobs = self._jobs
        while self._coming < len(jobs) and (job := jobs[self._coming].job).submitted_s == now_s:
            self._coming += 1
            assert job.id == self._coming, "jobs are numbered in order of submission"
            self._view.put_job(job, Queued(now_s))
            self._meter.submitted(job)

    def _cycle(self, now_s: float) -> Plan:
        found = cycle(self._view, now_s)
        if found.violations:
            bad = found.violations[0]
            job = self._trace(bad.job_id).name
            raise BrokenRule(f"{self._name}: job {job}: the plan breaks the rule {bad.rule}: {bad.detail}")
        if found.plan.again_s is not None and found.plan.again_s <= now_s:
            raise BrokenRule(f"{self._name}: the plan at {now_s} s asks for another one at {found.plan.again_s} s")
        for placement in found.placements:
            self._start(placement, now_s)
        self._meter.frag_gpus = self._fragmentation.gpus
        return found.plan

    def _start(self, placement: Placement, now_s: float) -> None:
        trace = self._trace(placement.job_id)
        job, view, end_s = trace.job, self._view, now_s + trace.duration_s
        allocation = Allocation(AllocationId(f"1.{next(self._allocations)}"), placement.shares)
        phase: Phase = apply(view.phases[job.id], Placed(now_s, BY, allocation))
        for rank in range(len(placement.shares)):
            assert isinstance(phase, Reserved)
            phase = apply(phase, on_claim(phase, rank, at_s=now_s, by=BY))
        view.put_job(job, phase)
        heapq.heappush(self._ends, (end_s, job.id))
        self._touched(allocation)
        self._meter.started(job)
        self._waits.append(now_s - job.submitted_s)
        self._completions.append(end_s - job.submitted_s)
        if self._listeners:
            run = _run(trace, placement, now_s, end_s)
            for listener in self._listeners:
                listener(run)

    def _end(self, job_id: JobId, now_s: float) -> None:
        view = self._view
        job, phase = view.jobs[job_id], view.phases[job_id]
        assert isinstance(phase, HOLDS_GPUS)
        allocation = phase.allocation
        ended: Phase = phase
        for rank in range(len(allocation.shares)):
            assert isinstance(ended, LIVE)
            ended = apply(ended, on_exit(job, ended, rank, Exit(ended_s=now_s, code=0), by=BY))
        view.put_job(job, ended)
        self._touched(allocation)
        self._meter.ended(job)
        self._last_end_s = now_s
        self._ended += 1
        if self._progress is not None and self._ended % PROGRESS_ENDS == 0:
            self._progress(self._ended)

    def _touched(self, allocation: Allocation) -> None:
        for name in allocation.nodes:
            self._fragmentation.changed(name)

    def _trace(self, job_id: JobId) -> TraceJob:
        return self._jobs[job_id - 1]

    def _stuck(self, plan: Plan) -> BrokenRule:
        """Return the error for jobs that wait while nothing runs and nothing comes."""
        why = [(refusal.first, refusal.reason) for refusal in plan.refusals]
        # Whoever is held back waits for another one: that one's reason is what people can act on.
        why.sort(key=lambda pair: isinstance(pair[1], HeldBack | InLine))
        first: tuple[JobId, Reason] = why[0] if why else (min(self._view.jobs), NotYetSeen())
        trace, more = self._trace(first[0]), self._view.pending - 1
        others = f" (and {more} more)" if more else ""
        return BrokenRule(
            f"{self._name}: job {trace.name}{others} waits for ever, for {in_gpus(trace.job.request.milli)} GPUs: "
            f"{render(first[1])}; nothing runs, and nothing else comes",
            fix="let the policy give it more nodes: pools, borrow, strict",
        )

    def result(self, wall_s: float) -> Result:
        """Return the figures of a finished run, which took *wall_s* to compute."""
        waits, jobs = sorted(self._waits), len(self._waits)
        return Result(
            policy=self._name,
            nodes={node.name: node.usable_gpus for node in self._view.nodes.values()},
            jobs=jobs,
            mean_jct_s=math.fsum(self._completions) / jobs if jobs else 0.0,
            mean_queue_s=math.fsum(waits) / jobs if jobs else 0.0,
            p50_queue_s=percentile(waits, 0.5),
            p99_queue_s=percentile(waits, 0.99),
            p999_queue_s=percentile(waits, 0.999),
            queued_jobs=sum(wait > 0 for wait in waits),
            util_window=self._meter.util_window,
            alloc_while_waiting=self._meter.alloc_while_waiting,
            makespan_s=self._last_end_s - self._jobs[0].job.submitted_s if self._jobs else 0.0,
            frag_fgd=self._meter.frag_fgd,
            wall_s=wall_s,
            runs=self._runs,
            moments=self._meter.moments,
            refused=self._workload.refused,
        )


def _run(trace: TraceJob, placement: Placement, start_s: float, end_s: float) -> Run:
    job = trace.job
    shares = tuple([Share(share.node, share.gpus, share.gpu_milli) for share in placement.shares])
    return Run(trace.name, job.priority, job.request.milli / 1000, job.submitted_s, start_s, end_s, shares)


def simulate(
    name: str,
    workload: Workload,
    nodes: Sequence[Node],
    policy: Policy,
    *,
    keep: bool = False,
    started: Callable[[Run], object] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Result:
    """Return what *policy*, called *name*, makes of *workload*; the rest is as for `Simulation`. Raises BrokenRule."""
    began = time.perf_counter()
    simulation = Simulation(name, workload, nodes, policy, keep=keep, started=started, progress=progress)
    simulation.run()
    return simulation.result(time.perf_counter() - began)
