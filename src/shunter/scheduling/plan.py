"""What a pass decided: placements to commit, whom it keeps nodes for, and for each ask that was refused, why."""

from __future__ import annotations

from msgspec import Struct

from shunter.domain.ids import JobId, NodeName
from shunter.domain.job import Request
from shunter.domain.phase import NodeShare
from shunter.domain.reason import Reason, SchedulerFails


class Placement(Struct, frozen=True):
    """One job and the shares that its next attempt gets, in rank order."""

    job_id: JobId
    shares: tuple[NodeShare, ...]


class Refusal(Struct, frozen=True):
    """Why the jobs of one class and shape wait. *first* is the foremost of them, *count* how many wait with it.

    *avoid*: the nodes that just failed them, sorted.
    """

    rank: int
    request: Request
    first: JobId
    count: int
    reason: Reason
    avoid: tuple[NodeName, ...] = ()


class Reservation(Struct, frozen=True):
    """*nodes* are kept for a blocked job, which can start there at *at_s* (wall clock) if estimates hold."""

    job_id: JobId
    at_s: float
    nodes: tuple[NodeName, ...]


class Plan(Struct, frozen=True):
    """The outcome of one pass. Placements are in the order in which they were decided.

    *reservations* are those that the pass had to work out: none while nothing behind the blocked jobs could start.
    *again_s*: when (wall clock) the same view may lead to another plan, because a job's patience ends.
    """

    placements: tuple[Placement, ...]
    refusals: tuple[Refusal, ...]
    reservations: tuple[Reservation, ...] = ()
    again_s: float | None = None


class Decision(Struct, frozen=True):
    """The outcome of the latest pass as the leader publishes it, so that people see why their jobs wait.

    *failing*: passes have failed since, and say nothing.
    """

    epoch: int
    at_s: float
    refusals: tuple[Refusal, ...]
    reservations: tuple[Reservation, ...] = ()
    failing: SchedulerFails | None = None


class Violation(Struct, frozen=True):
    """A placement that `verify` refuses to commit, and the rule that it breaks."""

    job_id: JobId
    rule: str
    detail: str
