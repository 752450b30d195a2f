"""What a node does about each attempt: a pure machine. Facts in (hints, lease answers, the keeper's reports, the
store's answers), effects out; the shell in `worker.py` carries them out and feeds the results back.

An attempt on a node goes: offered → claimed in the store → started by the keeper → ended by the keeper → reported to
the store → acknowledged to the keeper. Facts may come late, doubled or never; each step is guarded by the store's
revision, so a wrong guess here is answered with the record as it is, and looked at again.
"""

from __future__ import annotations

import enum

from msgspec import Struct

from shunter.agent.keeper.protocol import Ended, Live
from shunter.domain import retry
from shunter.domain.ids import Incarnation, JobId, NodeName
from shunter.domain.job import Job, Launch
from shunter.domain.outcome import Exit, FailureClass
from shunter.domain.phase import LIVE, Allocation, Reserved, Running, Stopping
from shunter.store.codec import Record
from shunter.store.commands import Answer, Move, move


class Stage(enum.Enum):
    """How far an attempt has come on this node."""

    CLAIMED = "claimed"
    SENT = "sent"
    LIVE = "live"
    ENDED = "ended"


class Attempt(Struct):
    """A member that this node knows. *since_s* is when it became known (boot time, seconds)."""

    job: Job
    launch: Launch | None
    allocation: Allocation
    number: int
    rank: int
    record: Record
    stage: Stage
    since_s: float
    exit: Exit | None = None
    stop_sent: bool = False


class Claim(Struct, frozen=True):
    """Take this share in the store."""

    move: Move


class StartMember(Struct, frozen=True):
    """Have the keeper start it."""

    attempt: Attempt


class StopMember(Struct, frozen=True):
    """Have the keeper end it; *now* for a stale one, whose work is void."""

    allocation: str
    now: bool


class ReportExit(Struct, frozen=True):
    """Tell the store how it ended."""

    allocation: str
    move: Move


class Acknowledge(Struct, frozen=True):
    """Tell the keeper that the store knows."""

    allocation: str


Effect = Claim | StartMember | StopMember | ReportExit | Acknowledge


class Supervisor:
    """The attempts of one node incarnation. Every method returns the effects that follow from the fact."""

    def __init__(self, node: NodeName, incarnation: Incarnation) -> None:
        self.node = node
        self.incarnation = incarnation
        self.attempts: dict[str, Attempt] = {}
        self._done: dict[str, float] = {}

    # facts from the store

    def offered(self, job_id: JobId, record: Record, now_s: float) -> list[Effect]:
        """A hint or a lease answer says that *record* concerns this node."""
        phase = record.phase
        if not isinstance(phase, Reserved | Running | Stopping):
            return []
        known = self.attempts.get(phase.allocation.id)
        if isinstance(phase, Reserved):
            rank = self._rank(phase.allocation)
            if known or rank is None or phase.allocation.shares[rank].incarnation != self.incarnation:
                return []
            if rank in phase.claimed:
                return []
            return [Claim(move(job_id, record, retry.on_claim(phase, rank, at_s=now_s, by=self.node)))]
        if known is None:
            return []
        if record.rev > known.record.rev:
            known.record = record
        if isinstance(phase, Stopping):
            return self._stop(known)
        if known.stage is Stage.CLAIMED:
            known.stage = Stage.SENT
            return [StartMember(known)]
        return []

    def claimed(
        self, made: Move, answer: Answer, spec: tuple[Job, Launch] | None, *, now_s: float, boot_s: float
    ) -> list[Effect]:
        """The store answered a claim."""
        if isinstance(answer, Record):
            if answer == made.before:
                return []  # not ours to claim; the next lease answer is soon enough to look again
            return self.offered(made.job_id, answer, now_s)  # another member's claim came between, or it is over
        if answer != "ok" or spec is None:
            return []
        phase = made.after.phase
        assert isinstance(phase, Reserved | Running)
        if phase.allocation.id in self.attempts:
            return []
        rank = self._rank(phase.allocation)
        assert rank is not None
        attempt = Attempt(*spec, phase.allocation, phase.attempt, rank, made.after, Stage.CLAIMED, boot_s)
        self.attempts[phase.allocation.id] = attempt
        if isinstance(phase, Reserved):
            return []
        attempt.stage = Stage.SENT
        return [StartMember(attempt)]

    def leased(self, held: dict[JobId, Record], asked_boot_s: float, now_s: float) -> list[Effect]:
        """The lease answer, asked for at *asked_boot_s*, lists what the store thinks this node has."""
        effects: list[Effect] = []
        listed = set()
        for job_id, record in held.items():
            phase = record.phase
            if isinstance(phase, Reserved | Running | Stopping):
                listed.add(phase.allocation.id)
                effects += self.offered(job_id, record, now_s)
        self._done = {allocation: since_s for allocation, since_s in self._done.items() if since_s >= asked_boot_s}
        for allocation, attempt in list(self.attempts.items()):
            if allocation in listed or attempt.since_s >= asked_boot_s:
                continue  # younger than the question: the answer cannot know of it
            if attempt.stage in (Stage.SENT, Stage.LIVE):
                effects.append(StopMember(allocation, now=True))
            elif attempt.stage is Stage.CLAIMED:
                del self.attempts[allocation]
        return effects

    def missing(self, held: dict[JobId, Record]) -> list[tuple[JobId, Record, int]]:
        """Return what the store thinks runs here and nobody here knows, with this node's rank."""
        found = []
        for job_id, record in held.items():
            phase = record.phase
            known = self.attempts.keys() | self._done.keys()
            if isinstance(phase, Running | Stopping) and phase.allocation.id not in known:
                rank = self._rank(phase.allocation)
                if rank is not None and all(one.rank != rank for one in phase.exits):
                    found.append((job_id, record, rank))
        return found

    def report_missing(self, job: Job, record: Record, rank: int, now_s: float, boot_s: float) -> list[Effect]:
        """It was claimed, and neither we nor the keeper have it: its worker died before the keeper was told."""
        exit = Exit(now_s, failure=FailureClass.NOT_STARTED, message="the node worker died before the job started")
        phase = record.phase
        assert isinstance(phase, Running | Stopping)
        attempt = Attempt(job, None, phase.allocation, phase.attempt, rank, record, Stage.ENDED, boot_s, exit)
        self.attempts[phase.allocation.id] = attempt
        return self._report(attempt)

    def reported(self, allocation: str, answer: Answer, boot_s: float) -> list[Effect]:
        """The store answered a report."""
        attempt = self.attempts.get(allocation)
        if attempt is None:
            return []
        if isinstance(answer, Record) and self._is_ours(answer, attempt):
            attempt.record = answer  # it moved on (a cancel, another member's end) but is still this attempt
            return self._report(attempt)
        del self.attempts[allocation]
        self._done[allocation] = boot_s  # a lease answer that is under way may still list it
        return [Acknowledge(allocation)]

    # facts from the keeper

    def adopt(self, member: Live | Ended, job: Job | None, record: Record | None, boot_s: float) -> list[Effect]:
        """A keeper that outlived an earlier worker has *member*; the store has *record*."""
        phase = record.phase if record else None
        if job is None or record is None or not isinstance(phase, LIVE) or not self._is_ours(record, member):
            if isinstance(member, Ended):
                return [Acknowledge(member.allocation)]
            return [StopMember(member.allocation, now=True)]
        if member.allocation not in self.attempts:
            self.attempts[member.allocation] = Attempt(
                job, None, phase.allocation, member.attempt, member.rank, record, Stage.LIVE, boot_s
            )
        attempt = self.attempts[member.allocation]
        if isinstance(member, Ended):
            return self.ended(member)
        attempt.stop_sent = member.stopping
        return self._stop(attempt) if isinstance(phase, Stopping) else []

    def live(self, member: Live) -> list[Effect]:
        """The keeper started it, or is ending it."""
        attempt = self.attempts.get(member.allocation)
        if attempt is None and member.allocation not in self._done:
            # An earlier worker's last request, which the keeper read only after this one had taken over what it had.
            return [StopMember(member.allocation, now=True)]
        if attempt is not None and attempt.stage is Stage.SENT:
            attempt.stage = Stage.LIVE
        return []

    def ended(self, member: Ended) -> list[Effect]:
        """No process of it is left."""
        attempt = self.attempts.get(member.allocation)
        if attempt is None:
            return [Acknowledge(member.allocation)]
        attempt.stage, attempt.exit = Stage.ENDED, member.exit
        return self._report(attempt)

    def keeper_replaced(self, has: set[str], now_s: float) -> list[Effect]:
        """A new keeper runs and has only *has*: what was sent to the old one and is not there never started."""
        effects: list[Effect] = []
        for allocation, attempt in self.attempts.items():
            if attempt.stage in (Stage.SENT, Stage.LIVE) and allocation not in has:
                attempt.stage = Stage.ENDED
                attempt.exit = Exit(
                    now_s, failure=FailureClass.NOT_STARTED, message="the keeper died before it started"
                )
                effects += self._report(attempt)
        return effects

    def refused(self, attempt: Attempt, exit: Exit) -> list[Effect]:
        """It could not even be handed to the keeper."""
        attempt.stage, attempt.exit = Stage.ENDED, exit
        return self._report(attempt)

    # helpers

    def _rank(self, allocation: Allocation) -> int | None:
        return next((rank for rank, share in enumerate(allocation.shares) if share.node == self.node), None)

    def _stop(self, attempt: Attempt) -> list[Effect]:
        if attempt.stop_sent or attempt.stage is Stage.ENDED:
            return []
        attempt.stop_sent = True
        if attempt.stage is Stage.CLAIMED:
            # Asked to stop between the gang's start and ours: this member ends without having run.
            message = "stopped before this member started"
            phase = attempt.record.phase
            assert isinstance(phase, Stopping)
            return self.refused(attempt, Exit(phase.asked_s, failure=FailureClass.NOT_STARTED, message=message))
        return [StopMember(attempt.allocation.id, now=False)]

    def _report(self, attempt: Attempt) -> list[Effect]:
        phase = attempt.record.phase
        assert attempt.exit is not None
        assert isinstance(phase, Running | Stopping)
        event = retry.on_exit(attempt.job, phase, attempt.rank, attempt.exit, by=self.node)
        return [ReportExit(attempt.allocation.id, move(attempt.job.id, attempt.record, event))]

    def _is_ours(self, record: Record, member: Live | Ended | Attempt) -> bool:
        """Whether *record* is still this attempt, and has no end of this member."""
        phase = record.phase
        known = member.allocation.id if isinstance(member, Attempt) else member.allocation
        return (
            isinstance(phase, Running | Stopping)
            and phase.allocation.id == known
            and all(one.rank != member.rank for one in phase.exits)
        )
