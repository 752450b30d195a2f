"""What comes after an attempt: the event that its end becomes. Pure; the node that saw the end runs it.

Classes that are not the job's doing are retried with exponential backoff and a cap (design section 3, invariant 8);
what the job did itself is final.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from shunter.domain.event import Event, Exited, MemberClaimed, MemberExited, MemberFailed, Requeued, Returned, Started
from shunter.domain.ids import NodeName
from shunter.domain.job import Job
from shunter.domain.outcome import INFRASTRUCTURE, Exit, Outcome, Result, classify
from shunter.domain.phase import HoldsGpus, MemberExit, Reserved, Running, StopCause, Stopping
from shunter.domain.transition import with_exit

BACKOFF_BASE_S: Final = 1.0
BACKOFF_CAP_S: Final = 300.0

AVOID_FOR_S: Final = 60.0
"""How long a retry waits for other nodes than those that just failed it. A sick GPU or a full disk fails a job within
seconds, again and again; but most nodes that were lost are well again after a minute, and then waiting helps nobody."""


def backoff_s(retries: int) -> float:
    """Return the wait before retry number *retries* + 1: 1, 2, 4, ... seconds, at most 300."""
    return float(min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** min(retries, 30)))


def on_claim(phase: Reserved, rank: int, *, at_s: float, by: str) -> MemberClaimed | Started:
    """Return what the claim of *rank* is: the last one missing starts the attempt."""
    missing = set(range(len(phase.allocation.shares))) - {*phase.claimed, rank}
    return MemberClaimed(at_s, by, rank) if missing else Started(at_s, by, rank)


def on_exit(job: Job, phase: Running | Stopping, rank: int, exit: Exit, *, by: str) -> Event:
    """Return what the *exit* of member *rank* is: one member's end, the job's end, or a retry."""
    exits = with_exit(phase.exits, MemberExit(rank, exit))
    if len(exits) < len(phase.allocation.shares):
        if isinstance(phase, Running) and _failed(exit) and exits is not phase.exits:
            return MemberFailed(exit.ended_s, by, rank, exit)
        return MemberExited(exit.ended_s, by, rank, exit)
    outcome = verdict(phase, exits)
    if outcome.failure in INFRASTRUCTURE and phase.retries < job.max_retries:
        return Requeued(exit.ended_s, by, outcome, exit.ended_s + backoff_s(phase.retries))
    return Exited(exit.ended_s, by, outcome)


def on_lost(job: Job, phase: HoldsGpus, node: NodeName, exit: Exit, *, by: str) -> Event | None:
    """Return what becomes of an attempt of which *node*, now lost, had a share; None if that member had ended before.

    *exit* says so. What was only reserved, wholly or in part, never ran.
    """
    if isinstance(phase, Reserved):
        return Returned(exit.ended_s, by, exit.message)
    rank = next(rank for rank, share in enumerate(phase.allocation.shares) if share.node == node)
    if any(one.rank == rank for one in phase.exits):
        return None
    return on_exit(job, phase, rank, exit, by=by)


def verdict(phase: Running | Stopping, exits: tuple[MemberExit, ...]) -> Outcome:
    """Return the outcome of an attempt whose members all ended: the first bad end speaks for the gang."""
    cancelled = isinstance(phase, Stopping) and phase.cause is StopCause.CANCELLED
    first_bad = next((member for member in exits if _failed(member.exit)), exits[-1])
    outcome = classify(first_bad.exit, cancelled=cancelled)
    if len(exits) > 1 and outcome.result is not Result.SUCCEEDED:
        node = phase.allocation.shares[first_bad.rank].node
        message = f"member {first_bad.rank} on {node}: {outcome.message}"
        return replace(outcome, message=message)
    return outcome


def _failed(exit: Exit) -> bool:
    return exit.failure is not None or exit.code != 0
