"""One sample of each phase and event, for tables."""

from __future__ import annotations

from typing import Final, get_args

from shunter.domain.event import (
    Cancelled,
    Event,
    Exited,
    MemberClaimed,
    MemberExited,
    MemberFailed,
    Placed,
    Requeued,
    Returned,
    Started,
    StopAsked,
    Submitted,
)
from shunter.domain.ids import AllocationId, Incarnation, JobId, NodeName
from shunter.domain.job import Job, Request
from shunter.domain.outcome import Exit, FailureClass, Outcome, Result
from shunter.domain.phase import (
    Allocation,
    Ended,
    MemberExit,
    NodeShare,
    PastAttempt,
    Phase,
    Queued,
    Reserved,
    Running,
    StopCause,
    Stopping,
)

FINE: Final = Exit(50.0, code=0)
BAD: Final = Exit(60.0, code=3)
KILLED: Final = Exit(70.0, signal=9)
GONE: Final = Exit(80.0, failure=FailureClass.NODE_LOST, message="node n1 was silent for 30 s")
NOT_STARTED: Final = Exit(90.0, failure=FailureClass.NOT_STARTED)
LOST: Final = Outcome(Result.LOST, failure=FailureClass.NODE_LOST)


def gang(*nodes: str) -> Allocation:
    return Allocation(AllocationId("1.1"), tuple(NodeShare(NodeName(n), Incarnation(f"{n}-1"), (0,)) for n in nodes))


def job(*, nodes: int = 1, max_retries: int = 3) -> Job:
    return Job(JobId(1), "train", "ada", Request(1, nodes), submitted_s=1.0, max_retries=max_retries)


PAIR: Final = gang("n1", "n2")
PAST: Final = (PastAttempt(1, (NodeName("n9"),), LOST, 8.0, 7.0),)
EARLIER: Final = (MemberExit(0, FINE),)

PHASES: Final[dict[type[Phase], Queued | Reserved | Running | Stopping | Ended]] = {
    Queued: Queued(10.0, attempt=1, retries=1, past=PAST),
    Reserved: Reserved(2, PAIR, 11.0, claimed=(1,), retries=1, past=PAST),
    Running: Running(2, PAIR, 12.0, EARLIER, retries=1, past=PAST),
    Stopping: Stopping(2, PAIR, 12.0, StopCause.MEMBER_FAILED, 13.0, EARLIER, retries=1, past=PAST),
    Ended: Ended(LOST, 14.0, 2, 12.0, PAIR, retries=1, past=PAST),
}
EVENTS: Final[dict[type[Event], Event]] = {
    Submitted: Submitted(20.0, "ada"),
    Placed: Placed(20.0, "coordinator-1", PAIR),
    MemberClaimed: MemberClaimed(20.0, "n1", 0),
    Started: Started(20.0, "n1", 0),
    Returned: Returned(20.0, "coordinator-1", "node n1 left"),
    Cancelled: Cancelled(20.0, "ada"),
    StopAsked: StopAsked(20.0, "ada", StopCause.CANCELLED),
    MemberExited: MemberExited(20.0, "n2", 1, FINE),
    MemberFailed: MemberFailed(20.0, "n2", 1, BAD),
    Exited: Exited(20.0, "n2", Outcome(Result.SUCCEEDED, 0)),
    Requeued: Requeued(20.0, "n2", LOST, not_before_s=22.0),
}
assert tuple(PHASES) == get_args(Phase)
assert tuple(EVENTS) == get_args(Event)
