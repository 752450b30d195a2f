"""Time limits for traces that have none: what people would have asked for.

The length of a run is known only afterwards; when it is submitted, its owner says a limit, and limits cluster on a few
round values above the true length. Source: Tsafrir, Etsion, Feitelson, "Modeling user runtime estimates", JSSPP'05.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from msgspec.structs import replace

from shunter.sim.result import TraceJob, Workload

ROUND_S: Final = tuple(
    int(hours * 3600) for hours in (1 / 12, 1 / 4, 1 / 2, 1, 2, 4, 8, 12, 24, 48, 72, 168, 336, 720, 8_784)
)
"""5, 15, 30 minutes, 1, 2, 4, 8, 12 hours, 1, 2, 3, 7, 14, 30, 366 days."""


def with_round_limits(workload: Workload) -> Workload:
    """Return *workload* with a limit on each job that has none: the least of `ROUND_S` that is not below its length."""
    return replace(workload, jobs=[_limited(trace) for trace in workload.jobs])


def _limited(trace: TraceJob) -> TraceJob:
    at = bisect_left(ROUND_S, trace.duration_s)
    if trace.job.time_limit_s is not None or at == len(ROUND_S):
        return trace
    return replace(trace, job=replace(trace.job, time_limit_s=ROUND_S[at]))
