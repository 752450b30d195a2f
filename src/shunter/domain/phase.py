"""The phases of a job. A phase owns the data that only it has; `transition.py` says how one becomes another.

Structs are frozen and tagged: they are the wire format in Redis and in the API. Times ending in `_s` are wall-clock
seconds, for people; nothing is decided by comparing them across machines.
"""

from __future__ import annotations

import enum
from typing import Final

from msgspec import Struct

from shunter.domain.ids import AllocationId, Incarnation, NodeName
from shunter.domain.job import WHOLE_GPU
from shunter.domain.outcome import Exit, Outcome


class NodeShare(Struct, frozen=True, omit_defaults=True):
    """What one member of an attempt holds on one node. *gpus* are device indexes, ascending; *gpu_milli* of each."""

    node: NodeName
    incarnation: Incarnation
    gpus: tuple[int, ...] = ()
    cpus: int = 0
    memory_mib: int = 0
    gpu_milli: int = WHOLE_GPU


class Allocation(Struct, frozen=True):
    """What an attempt holds: one share per member, in rank order; whole or not at all."""

    id: AllocationId
    shares: tuple[NodeShare, ...]

    @property
    def nodes(self) -> tuple[NodeName, ...]:
        return tuple(share.node for share in self.shares)


class StopCause(enum.StrEnum):
    """Why a running attempt was asked to end."""

    CANCELLED = "cancelled"
    MEMBER_FAILED = "member_failed"


class MemberExit(Struct, frozen=True):
    """The end of one member (rank) of an attempt."""

    rank: int
    exit: Exit


class PastAttempt(Struct, frozen=True, omit_defaults=True):
    """An attempt that did not end the job, kept for people and for the avoid-list."""

    attempt: int
    nodes: tuple[NodeName, ...]
    outcome: Outcome
    ended_s: float
    started_s: float | None = None


PAST_KEPT: Final = 10
"""How many past attempts a phase carries; older ones are in the event stream only."""


class Queued(Struct, frozen=True, omit_defaults=True, tag="queued"):
    """Waits for GPUs. *attempt* counts attempts so far; it is not placed before *not_before_s*."""

    since_s: float
    attempt: int = 0
    retries: int = 0
    not_before_s: float = 0.0
    past: tuple[PastAttempt, ...] = ()


class Reserved(Struct, frozen=True, omit_defaults=True, tag="reserved"):
    """Holds its GPUs; its nodes have yet to claim it. *claimed* are the ranks that did, ascending."""

    attempt: int
    allocation: Allocation
    reserved_s: float
    claimed: tuple[int, ...] = ()
    retries: int = 0
    past: tuple[PastAttempt, ...] = ()


class Running(Struct, frozen=True, omit_defaults=True, tag="running"):
    """Every member has claimed; the nodes run it. *exits* are the members that ended well so far."""

    attempt: int
    allocation: Allocation
    started_s: float
    exits: tuple[MemberExit, ...] = ()
    retries: int = 0
    past: tuple[PastAttempt, ...] = ()


class Stopping(Struct, frozen=True, omit_defaults=True, tag="stopping"):
    """Was asked to end and still holds its GPUs, until no process of it is left."""

    attempt: int
    allocation: Allocation
    started_s: float
    cause: StopCause
    asked_s: float
    exits: tuple[MemberExit, ...] = ()
    retries: int = 0
    past: tuple[PastAttempt, ...] = ()


class Ended(Struct, frozen=True, omit_defaults=True, tag="ended"):
    """Terminal. *started_s* and *nodes* are the last attempt's; none if it never ran."""

    outcome: Outcome
    ended_s: float
    attempt: int = 0
    started_s: float | None = None
    allocation: Allocation | None = None
    retries: int = 0
    past: tuple[PastAttempt, ...] = ()


Phase = Queued | Reserved | Running | Stopping | Ended
HoldsGpus = Reserved | Running | Stopping
HOLDS_GPUS: Final = (Reserved, Running, Stopping)
LIVE: Final = (Running, Stopping)
TERMINAL: Final = (Ended,)


def phase_tag(phase: Phase | type[Phase]) -> str:
    """Return the name of *phase* on the wire: `queued`, `reserved`, ..."""
    tag = phase.__struct_config__.tag
    assert isinstance(tag, str)
    return tag


def allocation_id(phase: Phase) -> str:
    """Return the id of the allocation that *phase* holds, `-` for none."""
    return phase.allocation.id if isinstance(phase, HOLDS_GPUS) else "-"
