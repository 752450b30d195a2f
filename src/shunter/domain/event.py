"""What can happen to a job. Every event names who did it (*by*) and when (*at_s*, wall clock, for people)."""

from __future__ import annotations

from msgspec import Struct

from shunter.domain.outcome import Exit, Outcome
from shunter.domain.phase import Allocation, StopCause


class Submitted(Struct, frozen=True, tag="submitted"):
    """A gateway accepted the job. It creates the first phase, so it stands in no pair of the table."""

    at_s: float
    by: str


class Placed(Struct, frozen=True, tag="placed"):
    """The leader decided where the next attempt runs."""

    at_s: float
    by: str
    allocation: Allocation


class MemberClaimed(Struct, frozen=True, tag="member_claimed"):
    """A node took its share of a gang; others have yet to."""

    at_s: float
    by: str
    rank: int


class Started(Struct, frozen=True, tag="started"):
    """The last share was claimed: the attempt is whole, and its processes may start."""

    at_s: float
    by: str
    rank: int


class Returned(Struct, frozen=True, tag="returned"):
    """The reservation was taken back before the attempt started (its node left)."""

    at_s: float
    by: str
    reason: str


class Cancelled(Struct, frozen=True, tag="cancelled"):
    """Someone cancelled a job that has not started: it ends at once."""

    at_s: float
    by: str


class StopAsked(Struct, frozen=True, tag="stop_asked"):
    """Someone wants a started attempt to end."""

    at_s: float
    by: str
    cause: StopCause


class MemberExited(Struct, frozen=True, tag="member_exited"):
    """A member of a gang ended while others run on."""

    at_s: float
    by: str
    rank: int
    exit: Exit


class MemberFailed(Struct, frozen=True, tag="member_failed"):
    """A member of a gang ended badly while others run: they are stopped, for half a gang is worth nothing."""

    at_s: float
    by: str
    rank: int
    exit: Exit


class Exited(Struct, frozen=True, tag="exited"):
    """The last member ended, and so the job."""

    at_s: float
    by: str
    outcome: Outcome


class Requeued(Struct, frozen=True, omit_defaults=True, tag="requeued"):
    """The attempt is over and the job goes back to the queue, not to be placed before *not_before_s*."""

    at_s: float
    by: str
    outcome: Outcome
    not_before_s: float = 0.0


Event = (
    Submitted
    | Placed
    | MemberClaimed
    | Started
    | Returned
    | Cancelled
    | StopAsked
    | MemberExited
    | MemberFailed
    | Exited
    | Requeued
)


def event_tag(event: Event | type[Event]) -> str:
    """Return the name of *event* on the wire: `placed`, `started`, ..."""
    tag = event.__struct_config__.tag
    assert isinstance(tag, str)
    return tag
