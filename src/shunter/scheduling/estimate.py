"""How long runs are thought to take, and when those that run are thought to end."""

from __future__ import annotations

import math
from typing import Final

from shunter.domain.job import Job
from shunter.domain.phase import HoldsGpus, Reserved
from shunter.scheduling.policy import Policy

_LEAST_S: Final = 1.0
_FOREVER_S: Final = 1e9


def said_s(job: Job, policy: Policy) -> float:
    """Return how long *job* runs as far as anybody said, in seconds; infinite if nobody did.

    That is what is expected of it where *policy* believes that, else its time limit.
    """
    if policy.estimate == "expected" and job.expected_s is not None:
        return job.expected_s
    return math.inf if job.time_limit_s is None else float(job.time_limit_s)


def length_s(said: float, policy: Policy, *, whole_nodes: bool) -> float:
    """Return how long a run is thought to take, in seconds, of which *said* was said.

    If nothing was, a job that takes *whole_nodes* is thought to be short: where it runs, it costs no more than its own
    time. One that takes a part of a node could hold up the whole of it, so it is thought to be long.
    """
    if not math.isinf(said) or policy.backfill is None:
        return said
    return policy.backfill.default_time_s if whole_nodes else _FOREVER_S


def start_of(phase: HoldsGpus) -> float:
    """Return since when *phase* holds its GPUs as far as it says (wall clock)."""
    return phase.reserved_s if isinstance(phase, Reserved) else phase.started_s


def end_s(start_s: float, length: float, now_s: float) -> float:
    """Return when a run of *length* seconds since *start_s* is thought to end, which is after *now_s*.

    An estimate that proved too short is doubled until it is not: what ran twice as long as thought may well run on.
    Source: Tsafrir, Etsion, Feitelson, "Backfilling using system-generated predictions", TPDS 2007, section 4.
    """
    ran_s = now_s - start_s
    if ran_s >= length:
        length = max(length, _LEAST_S)
        length *= 2.0 ** (math.floor(math.log2(max(ran_s / length, 1.0))) + 1)
    return max(start_s + length, math.nextafter(now_s, math.inf))  # sums of floats may be rounded down to now
