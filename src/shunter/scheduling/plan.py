"""What a pass decided: placements to commit, and for each group that was refused, why."""

from __future__ import annotations

from msgspec import Struct

from shunter.domain.ids import JobId
from shunter.domain.job import Request
from shunter.domain.phase import NodeShare
from shunter.domain.reason import Reason


class Placement(Struct, frozen=True):
    """One job and the shares that its next attempt gets, in rank order."""

    job_id: JobId
    shares: tuple[NodeShare, ...]


class Refusal(Struct, frozen=True):
    """Why the jobs of one class and shape wait. *first* is the foremost of them, *count* how many wait with it."""

    rank: int
    request: Request
    first: JobId
    count: int
    reason: Reason


class Plan(Struct, frozen=True):
    """The outcome of one pass. Placements are in the order in which they were decided."""

    placements: tuple[Placement, ...]
    refusals: tuple[Refusal, ...]


class Decision(Struct, frozen=True):
    """The refusals of the latest pass as the leader publishes them, so that people see why their jobs wait."""

    epoch: int
    at_s: float
    refusals: tuple[Refusal, ...]


class Violation(Struct, frozen=True):
    """A placement that `verify` refuses to commit, and the rule that it breaks."""

    job_id: JobId
    rule: str
    detail: str
