"""A little virtual cluster: cycles and ends of runs, one after the other, each run exactly as long as it is thought."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from shunter.domain.event import Exited, Placed, Started
from shunter.domain.ids import AllocationId, JobId
from shunter.domain.job import Job
from shunter.domain.outcome import Outcome, Result
from shunter.domain.phase import HOLDS_GPUS, Allocation, Queued, Reserved
from shunter.domain.transition import apply
from shunter.scheduling.cycle import cycle
from shunter.scheduling.estimate import end_s, start_of
from shunter.scheduling.plan import Plan
from shunter.scheduling.view import View

BY = "forward"


def length_s(job: Job, view: View) -> float:
    """Return how long *job* runs: what is expected of it where the policy believes that, else its limit."""
    if view.policy.estimate == "expected" and job.expected_s is not None:
        return job.expected_s
    assert job.time_limit_s is not None, "a run without a limit does not end"
    return float(job.time_limit_s)


class Forward:
    """*view* from *now_s* on. `started_s` says when each job started that did. All jobs need limits."""

    def __init__(self, view: View, now_s: float, arrivals: Iterable[Job] = ()) -> None:
        self.view = view
        self.now_s = now_s
        self.started_s: dict[JobId, float] = {}
        self._arrivals = [(job.submitted_s, job.id, job) for job in arrivals]
        heapq.heapify(self._arrivals)
        self._ends: list[tuple[float, JobId]] = []
        self._again_s: float | None = None
        for job_id, phase in list(view.phases.items()):
            if isinstance(phase, HOLDS_GPUS):
                start_s = start_of(phase)
                if isinstance(phase, Reserved):
                    view.put_job(view.jobs[job_id], apply(phase, Started(start_s, BY, 0)))
                heapq.heappush(self._ends, (end_s(start_s, length_s(view.jobs[job_id], view), now_s), job_id))

    def cycle(self) -> Plan:
        """Decide and start what was decided."""
        found = cycle(self.view, self.now_s)
        assert found.violations == ()
        for placement in found.placements:
            job = self.view.jobs[placement.job_id]
            allocation = Allocation(AllocationId(f"1.{job.id}"), placement.shares)
            reserved = apply(self.view.phases[job.id], Placed(self.now_s, BY, allocation))
            self.view.put_job(job, apply(reserved, Started(self.now_s, BY, 0)))
            self.started_s[job.id] = self.now_s
            heapq.heappush(self._ends, (self.now_s + length_s(job, self.view), job.id))
        self._again_s = found.plan.again_s
        return found.plan

    def go_on(self) -> bool:
        """Move on to the next instant at which something may happen; return whether there is one."""
        times = [events[0][0] for events in (self._ends, self._arrivals) if events]
        if self._again_s is not None and self._again_s > self.now_s:
            times.append(self._again_s)
        if not times:
            return False
        self.now_s = min(times)
        while self._ends and self._ends[0][0] == self.now_s:
            _, job_id = heapq.heappop(self._ends)
            ended = apply(self.view.phases[job_id], Exited(self.now_s, BY, Outcome(Result.SUCCEEDED, 0)))
            self.view.put_job(self.view.jobs[job_id], ended)
        while self._arrivals and self._arrivals[0][0] == self.now_s:
            _, _, job = heapq.heappop(self._arrivals)
            self.view.put_job(job, Queued(self.now_s))
        return True

    def run(self) -> None:
        """Run until nothing happens any more."""
        self.cycle()
        while self.go_on():
            self.cycle()
