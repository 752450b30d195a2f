"""What a node does about an attempt: each fact in each stage, and facts that come doubled, late or never."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from shunter.agent.keeper.protocol import Ended, Live
from shunter.agent.supervisor import (
    Acknowledge,
    Claim,
    Effect,
    ReportExit,
    Stage,
    StartMember,
    StopMember,
    Supervisor,
)
from shunter.domain.event import Cancelled, Event, Exited, MemberClaimed, MemberFailed, Requeued, Started, StopAsked
from shunter.domain.ids import AllocationId, Incarnation, JobId, NodeName
from shunter.domain.job import Job, Launch, Request
from shunter.domain.outcome import Exit, FailureClass, Result
from shunter.domain.phase import Allocation, MemberExit, NodeShare, Queued, Reserved, Running, StopCause, Stopping
from shunter.domain.transition import apply
from shunter.store.codec import Record, record
from shunter.store.commands import Move

N1, N2 = NodeName("n1"), NodeName("n2")
NOW_S: Final = 1_000.0
BOOT_S: Final = 50.0
JOB: Final = Job(JobId(7), "train", "ada", Request(1, 2), submitted_s=1.0)
LAUNCH: Final = Launch(["true"], "/")
FINE: Final = Exit(60.0, code=0)
BAD: Final = Exit(61.0, code=3)


def allocation(*nodes: NodeName, number: int = 1) -> Allocation:
    return Allocation(AllocationId(f"1.{number}"), tuple(NodeShare(n, Incarnation(f"{n}-1"), (0,)) for n in nodes))


ALONE: Final = allocation(N1)
PAIR: Final = allocation(N1, N2)
ID: Final = "1.1"


def reserved(shares: Allocation = ALONE, *, claimed: tuple[int, ...] = (), rev: int = 2) -> Record:
    return record(Reserved(1, shares, 10.0, claimed), rev)


def running(shares: Allocation = ALONE, *, exits: tuple[MemberExit, ...] = (), rev: int = 3) -> Record:
    return record(Running(1, shares, 11.0, exits), rev)


def stopping(shares: Allocation = ALONE, *, cause: StopCause = StopCause.CANCELLED, rev: int = 4) -> Record:
    return record(Stopping(1, shares, 11.0, cause, 12.0), rev)


def after(before: Record, event: Event) -> Record:
    return record(apply(before.phase, event), before.rev + 1)


QUEUED: Final = record(Queued(9.0), 1)
CANCELLED: Final = after(reserved(), Cancelled(13.0, "ada"))
LIVE: Final = Live(ID, 7, 1, 0, pid=99, gpus=(0,))
OVER: Final = Ended(ID, 7, 1, 0, FINE)


def node() -> Supervisor:
    return Supervisor(N1, Incarnation("n1-1"))


def claims(effects: list[Effect]) -> list[Move]:
    assert all(isinstance(one, Claim) for one in effects)
    return [one.move for one in effects if isinstance(one, Claim)]


def report(effects: list[Effect]) -> Move:
    (effect,) = effects
    assert isinstance(effect, ReportExit)
    return effect.move


def starts(effects: list[Effect]) -> str:
    (effect,) = effects
    assert isinstance(effect, StartMember)
    return str(effect.attempt.allocation.id)


def answer(machine: Supervisor, made: Move, *, to: Record | None = None) -> list[Effect]:
    """The store takes the claim *made*, or answers *to*."""
    return machine.claimed(made, to or "ok", None if to else (JOB, LAUNCH), now_s=NOW_S, boot_s=BOOT_S)


def at(stage: Stage, shares: Allocation = ALONE) -> Supervisor:
    """Return a node that has brought its member of *shares* to *stage*; CLAIMED needs another member that has not."""
    machine = node()
    if stage is Stage.CLAIMED:
        (made,) = claims(machine.offered(JOB.id, reserved(PAIR), NOW_S))
        assert answer(machine, made) == []
        return machine
    others = tuple(range(1, len(shares.shares)))
    (made,) = claims(machine.offered(JOB.id, reserved(shares, claimed=others), NOW_S))
    starts(answer(machine, made))
    if stage is not Stage.SENT:
        machine.live(LIVE)
    if stage is Stage.ENDED:
        machine.ended(OVER)
    assert machine.attempts[ID].stage is stage
    return machine


# offers


def test_a_reservation_is_claimed_and_the_claim_of_the_last_member_starts_the_attempt() -> None:
    machine = node()
    (made,) = claims(machine.offered(JOB.id, reserved(), NOW_S))
    assert made.event == Started(NOW_S, "n1", 0)
    assert made.after.phase == Running(1, ALONE, NOW_S)
    assert starts(answer(machine, made)) == ID


def test_a_gang_is_started_only_when_the_store_says_that_it_is_whole() -> None:
    machine = node()
    (made,) = claims(machine.offered(JOB.id, reserved(PAIR), NOW_S))
    assert made.event == MemberClaimed(NOW_S, "n1", 0)
    assert answer(machine, made) == []
    assert machine.offered(JOB.id, reserved(PAIR, claimed=(0,), rev=3), NOW_S) == []
    assert starts(machine.offered(JOB.id, running(PAIR, rev=4), NOW_S)) == ID
    assert machine.offered(JOB.id, running(PAIR, rev=4), NOW_S) == []


@pytest.mark.parametrize("stage", Stage)
def test_a_reservation_that_is_known_is_not_claimed_again(stage: Stage) -> None:
    machine = at(stage)
    shares = PAIR if stage is Stage.CLAIMED else ALONE
    assert machine.offered(JOB.id, reserved(shares), NOW_S) == []
    assert machine.attempts[ID].stage is stage


@pytest.mark.parametrize(
    "offer",
    [
        reserved(Allocation(AllocationId(ID), (NodeShare(N1, Incarnation("n1-0"), (0,)),))),
        reserved(allocation(N2)),
        reserved(PAIR, claimed=(0,)),
        QUEUED,
        CANCELLED,
        running(),
        stopping(),
    ],
    ids=["for an earlier incarnation", "for another node", "claimed already", "queued", "ended", "running", "stopping"],
)
def test_what_is_not_ours_to_claim_is_left_alone(offer: Record) -> None:
    machine = node()
    assert machine.offered(JOB.id, offer, NOW_S) == []
    assert machine.attempts == {}


@pytest.mark.parametrize("stage", [Stage.SENT, Stage.LIVE, Stage.ENDED])
def test_a_doubled_start_starts_nothing(stage: Stage) -> None:
    machine = at(stage)
    assert machine.offered(JOB.id, running(), NOW_S) == []
    assert machine.attempts[ID].stage is stage


@pytest.mark.parametrize("stage", [Stage.SENT, Stage.LIVE])
def test_a_stop_is_passed_on_once_and_with_grace(stage: Stage) -> None:
    machine = at(stage)
    assert machine.offered(JOB.id, stopping(), NOW_S) == [StopMember(ID, now=False)]
    assert machine.offered(JOB.id, stopping(), NOW_S) == []


def test_a_stop_after_the_end_changes_nothing() -> None:
    assert at(Stage.ENDED).offered(JOB.id, stopping(), NOW_S) == []


def test_a_member_that_is_stopped_before_it_started_ends_without_having_run() -> None:
    machine = at(Stage.CLAIMED)
    made = report(machine.offered(JOB.id, stopping(PAIR, rev=5), NOW_S))
    phase = made.after.phase
    assert isinstance(phase, Stopping)
    assert phase.exits[0].rank == 0
    assert phase.exits[0].exit.failure is FailureClass.NOT_STARTED
    assert machine.reported(ID, "ok", BOOT_S) == [Acknowledge(ID)]


def test_an_older_record_does_not_take_the_place_of_a_newer_one() -> None:
    machine = at(Stage.LIVE)
    machine.offered(JOB.id, stopping(rev=4), NOW_S)
    machine.offered(JOB.id, running(rev=3), NOW_S)
    assert machine.attempts[ID].record == stopping(rev=4)
    assert report(machine.ended(OVER)).before == stopping(rev=4)


# signals: an attempt knows one, the stop with grace; after it only the kill

TERM: Final = StopMember(ID, now=False)
KILL: Final = StopMember(ID, now=True)


@pytest.mark.parametrize("stage", [Stage.SENT, Stage.LIVE])
def test_however_often_and_late_a_stop_is_told_it_is_one_signal(stage: Stage) -> None:
    machine = at(stage)
    told = [machine.offered(JOB.id, stopping(), NOW_S) for _ in range(3)]
    told += [machine.leased({JOB.id: stopping()}, BOOT_S + 1, NOW_S) for _ in range(3)]
    told += [machine.offered(JOB.id, running(), NOW_S), machine.offered(JOB.id, stopping(), NOW_S)]  # late, doubled
    told += [machine.live(LIVE), machine.live(Live(ID, 7, 1, 0, pid=99, gpus=(0,), stopping=True))]
    assert [one for effects in told for one in effects] == [TERM]


def test_a_cancel_after_a_member_failed_is_no_second_signal_and_is_not_swallowed() -> None:
    machine = at(Stage.LIVE, PAIR)
    failed = stopping(PAIR, cause=StopCause.MEMBER_FAILED, rev=5)
    assert machine.offered(JOB.id, failed, NOW_S) == [TERM]
    cancelled = after(failed, StopAsked(14.0, "ada", StopCause.CANCELLED))
    assert machine.offered(JOB.id, cancelled, NOW_S) == []
    assert machine.offered(JOB.id, failed, NOW_S) == []  # late: the newer one stands
    made = report(machine.ended(Ended(ID, 7, 1, 0, BAD)))
    assert made.before == cancelled
    assert isinstance(made.after.phase, Stopping)
    assert made.after.phase.cause is StopCause.CANCELLED


def test_a_kill_is_passed_on_though_the_stop_was() -> None:
    machine = at(Stage.LIVE)
    assert machine.offered(JOB.id, stopping(), NOW_S) == [TERM]
    assert machine.leased({}, BOOT_S + 1, NOW_S) == [KILL]


def test_a_stop_that_comes_before_the_start_is_told_is_one_signal() -> None:
    machine = at(Stage.SENT)
    assert machine.offered(JOB.id, stopping(), NOW_S) == [TERM]
    assert machine.live(LIVE) == []
    assert machine.offered(JOB.id, stopping(), NOW_S) == []


def test_the_next_worker_gives_no_signal_that_the_keeper_has_heard_and_each_that_it_has_not() -> None:
    heard = Live(ID, 7, 1, 0, pid=99, gpus=(0,), stopping=True)
    for member, expected in ((heard, []), (LIVE, [TERM])):
        machine = node()
        told = machine.adopt(member, JOB, stopping(), BOOT_S)
        told += machine.offered(JOB.id, stopping(), NOW_S)
        told += machine.leased({JOB.id: stopping()}, BOOT_S + 1, NOW_S)
        assert told == expected


# the store's answers to claims


def test_a_claim_that_the_store_refuses_as_not_ours_is_not_made_again_at_once() -> None:
    """Its answer is what we claimed from: at once again would be for ever."""
    machine = node()
    (made,) = claims(machine.offered(JOB.id, reserved(), NOW_S))
    assert answer(machine, made, to=made.before) == []
    assert claims(machine.leased({JOB.id: reserved()}, BOOT_S + 1, NOW_S)) == [made]


def test_a_claim_that_came_too_late_starts_nothing() -> None:
    machine = node()
    (made,) = claims(machine.offered(JOB.id, reserved(), NOW_S))
    for late in (CANCELLED, QUEUED, reserved(allocation(N2, number=2), rev=5)):
        assert answer(machine, made, to=late) == []
    assert machine.claimed(made, "gone", None, now_s=NOW_S, boot_s=BOOT_S) == []
    assert machine.attempts == {}


def test_a_claim_that_another_member_overtook_is_made_again_on_what_is_there_now() -> None:
    machine = node()
    (made,) = claims(machine.offered(JOB.id, reserved(PAIR), NOW_S))
    now = reserved(PAIR, claimed=(1,), rev=3)
    (again,) = claims(answer(machine, made, to=now))
    assert again.before == now
    assert again.event == Started(NOW_S, "n1", 0)
    assert starts(answer(machine, again)) == ID


def test_a_doubled_answer_to_a_claim_starts_nothing_twice() -> None:
    machine = node()
    (made,) = claims(machine.offered(JOB.id, reserved(), NOW_S))
    assert starts(answer(machine, made)) == ID
    assert answer(machine, made) == []


# leases


def test_a_lease_answer_says_what_a_lost_hint_would_have_said() -> None:
    machine = node()
    (made,) = claims(machine.leased({JOB.id: reserved()}, BOOT_S, NOW_S))
    assert starts(answer(machine, made)) == ID
    assert machine.leased({JOB.id: stopping()}, BOOT_S, NOW_S) == [StopMember(ID, now=False)]


@pytest.mark.parametrize("stage", [Stage.SENT, Stage.LIVE])
def test_what_the_lease_no_longer_lists_is_ended_without_grace(stage: Stage) -> None:
    machine = at(stage)
    assert machine.leased({}, BOOT_S + 1, NOW_S) == [StopMember(ID, now=True)]


@pytest.mark.parametrize("stage", Stage)
def test_an_answer_that_was_asked_for_before_the_attempt_was_known_says_nothing_about_it(stage: Stage) -> None:
    machine = at(stage)
    assert machine.leased({}, BOOT_S - 1, NOW_S) == []
    assert machine.attempts[ID].stage is stage


def test_a_claimed_member_that_the_lease_no_longer_lists_is_forgotten() -> None:
    machine = at(Stage.CLAIMED)
    assert machine.leased({}, BOOT_S + 1, NOW_S) == []
    assert machine.attempts == {}


def test_a_member_whose_end_is_being_reported_is_not_stopped() -> None:
    assert at(Stage.ENDED).leased({}, BOOT_S + 1, NOW_S) == []


def test_what_the_store_thinks_runs_here_and_nobody_knows_is_reported_as_not_started() -> None:
    machine = node()
    held = {JOB.id: running(PAIR)}
    assert machine.leased(held, BOOT_S, NOW_S) == []
    assert machine.missing(held) == [(JOB.id, running(PAIR), 0)]
    made = report(machine.report_missing(JOB, running(PAIR), 0, NOW_S, BOOT_S))
    assert isinstance(made.event, MemberFailed)
    assert made.event.exit.failure is FailureClass.NOT_STARTED
    assert machine.missing(held) == []
    assert machine.reported(ID, "ok", BOOT_S) == [Acknowledge(ID)]


@pytest.mark.parametrize("stage", Stage)
def test_what_is_known_is_not_missing(stage: Stage) -> None:
    assert at(stage).missing({JOB.id: running()}) == []


def test_a_member_that_has_exited_in_the_store_is_not_missing() -> None:
    assert node().missing({JOB.id: running(PAIR, exits=(MemberExit(0, FINE),))}) == []
    assert node().missing({JOB.id: running(allocation(N2))}) == []
    assert node().missing({JOB.id: reserved()}) == []


def test_what_was_just_acknowledged_is_not_missing_in_an_answer_that_was_under_way() -> None:
    machine = at(Stage.ENDED)
    machine.reported(ID, "ok", BOOT_S + 5)
    under_way = {JOB.id: running()}
    assert machine.leased(under_way, BOOT_S + 4, NOW_S) == []
    assert machine.missing(under_way) == []
    machine.leased({}, BOOT_S + 6, NOW_S)  # this one was asked for later: it is the truth
    assert len(machine.missing(under_way)) == 1


# the keeper's reports


def test_an_end_is_reported_as_what_it_means_for_the_job() -> None:
    alone = report(at(Stage.LIVE).ended(OVER))
    assert isinstance(alone.event, Exited)
    assert alone.event.outcome.result is Result.SUCCEEDED
    failed = report(at(Stage.LIVE, PAIR).ended(Ended(ID, 7, 1, 0, BAD)))
    assert failed.event == MemberFailed(61.0, "n1", 0, BAD)
    lost = report(at(Stage.LIVE).ended(Ended(ID, 7, 1, 0, Exit(62.0, failure=FailureClass.KEEPER_LOST))))
    assert isinstance(lost.event, Requeued)


@pytest.mark.parametrize("stage", [Stage.SENT, Stage.LIVE, Stage.ENDED])
def test_an_end_is_reported_from_every_stage_and_as_often_as_it_is_told(stage: Stage) -> None:
    machine = at(stage)
    assert report(machine.ended(OVER)) == report(machine.ended(OVER))


def test_an_end_of_an_attempt_that_nobody_knows_is_acknowledged() -> None:
    assert node().ended(OVER) == [Acknowledge(ID)]


def test_an_end_that_is_told_again_after_it_was_acknowledged_is_acknowledged_again() -> None:
    machine = at(Stage.ENDED)
    assert machine.reported(ID, "ok", BOOT_S) == [Acknowledge(ID)]
    assert machine.ended(OVER) == [Acknowledge(ID)]


@pytest.mark.parametrize("stage", [Stage.LIVE, Stage.ENDED])
def test_a_late_start_report_does_not_take_a_stage_back(stage: Stage) -> None:
    machine = at(stage)
    assert machine.live(LIVE) == []
    assert machine.attempts[ID].stage is stage


def test_a_member_that_runs_and_that_nobody_knows_is_ended_at_once() -> None:
    assert node().live(LIVE) == [StopMember(ID, now=True)]


def test_a_late_start_report_of_what_is_over_is_ignored() -> None:
    machine = at(Stage.ENDED)
    machine.reported(ID, "ok", BOOT_S)
    assert machine.live(LIVE) == []


# the store's answers to reports


@pytest.mark.parametrize("said", ["ok", "gone", QUEUED, CANCELLED, running(allocation(N1, number=2), rev=9)])
def test_an_end_that_the_store_knows_or_does_not_want_is_acknowledged(said: Record | str) -> None:
    machine = at(Stage.ENDED)
    assert machine.reported(ID, said, BOOT_S) == [Acknowledge(ID)]  # type: ignore[arg-type]
    assert machine.attempts == {}
    assert machine.reported(ID, "ok", BOOT_S) == []


def test_a_report_that_something_overtook_is_made_again_on_what_is_there_now() -> None:
    machine = at(Stage.ENDED)
    now = after(running(), StopAsked(14.0, "ada", StopCause.CANCELLED))
    made = report(machine.reported(ID, now, BOOT_S))
    assert made.before == now
    assert isinstance(made.event, Exited)
    assert made.event.outcome.result is Result.CANCELLED


def test_a_report_that_the_store_had_already_is_acknowledged() -> None:
    machine = at(Stage.LIVE, PAIR)
    report(machine.ended(OVER))
    now = running(PAIR, exits=(MemberExit(0, FINE),), rev=4)
    assert machine.reported(ID, now, BOOT_S) == [Acknowledge(ID)]


# a new worker, a new keeper


@pytest.mark.parametrize("shares", [ALONE, PAIR])
def test_what_an_earlier_worker_started_is_taken_over(shares: Allocation) -> None:
    machine = node()
    assert machine.adopt(LIVE, JOB, running(shares), BOOT_S) == []
    assert machine.attempts[ID].stage is Stage.LIVE
    assert machine.leased({JOB.id: running(shares)}, BOOT_S + 1, NOW_S) == []
    assert report(machine.ended(OVER)).job_id == JOB.id


def test_an_end_that_no_worker_saw_is_reported() -> None:
    assert report(node().adopt(Ended(ID, 7, 1, 0, BAD), JOB, running(), BOOT_S)).job_id == JOB.id


def test_a_stop_that_the_keeper_has_not_heard_of_is_passed_on_when_taken_over() -> None:
    assert node().adopt(LIVE, JOB, stopping(), BOOT_S) == [StopMember(ID, now=False)]
    heard = Live(ID, 7, 1, 0, pid=99, gpus=(0,), stopping=True)
    assert node().adopt(heard, JOB, stopping(), BOOT_S) == []


@pytest.mark.parametrize(
    "there",
    [None, QUEUED, CANCELLED, running(allocation(N1, number=2)), reserved()],
    ids=["unknown", "queued", "ended", "another attempt", "reserved"],
)
def test_what_the_store_does_not_want_any_more_is_ended_or_acknowledged(there: Record | None) -> None:
    machine = node()
    job = JOB if there else None
    assert machine.adopt(LIVE, job, there, BOOT_S) == [StopMember(ID, now=True)]
    assert machine.adopt(OVER, job, there, BOOT_S) == [Acknowledge(ID)]
    assert machine.attempts == {}


@pytest.mark.parametrize("stage", [Stage.SENT, Stage.LIVE])
def test_what_a_dead_keeper_had_not_written_down_never_started(stage: Stage) -> None:
    machine = at(stage)
    made = report(machine.keeper_replaced(set(), NOW_S))
    assert isinstance(made.event, Requeued)
    assert made.event.outcome.failure is FailureClass.NOT_STARTED
    assert machine.reported(ID, "ok", BOOT_S) == [Acknowledge(ID)]


@pytest.mark.parametrize("stage", [Stage.SENT, Stage.LIVE])
def test_what_a_new_keeper_has_is_left_to_its_report(stage: Stage) -> None:
    assert at(stage).keeper_replaced({ID}, NOW_S) == []


@pytest.mark.parametrize("stage", [Stage.CLAIMED, Stage.ENDED])
def test_a_new_keeper_does_not_matter_to_what_no_keeper_has(stage: Stage) -> None:
    assert at(stage).keeper_replaced(set(), NOW_S) == []


def test_what_cannot_be_handed_to_the_keeper_is_reported_with_the_reason() -> None:
    machine = at(Stage.SENT)
    attempt = machine.attempts[ID]
    made = report(machine.refused(attempt, Exit(60.0, failure=FailureClass.DISK_FULL, message="no space")))
    assert isinstance(made.event, Exited)
    assert made.event.outcome.failure is FailureClass.DISK_FULL
    assert machine.reported(ID, "ok", BOOT_S) == [Acknowledge(ID)]


FACTS: Final[dict[str, Callable[[Supervisor], list[Effect]]]] = {
    "reserved": lambda one: one.offered(JOB.id, reserved(), NOW_S),
    "running": lambda one: one.offered(JOB.id, running(), NOW_S),
    "stopping": lambda one: one.offered(JOB.id, stopping(), NOW_S),
    "listed": lambda one: one.leased({JOB.id: running()}, BOOT_S + 1, NOW_S),
    "not listed": lambda one: one.leased({}, BOOT_S + 1, NOW_S),
    "live": lambda one: one.live(LIVE),
    "over": lambda one: one.ended(OVER),
    "keeper lost": lambda one: one.keeper_replaced(set(), NOW_S),
    "taken": lambda one: one.reported(ID, "ok", BOOT_S),
}
EXPECTED: Final[dict[str, list[type | None]]] = {
    "reserved": [Claim, None, None, None, None],
    "running": [None, StartMember, None, None, None],
    "stopping": [None, ReportExit, StopMember, StopMember, None],
    "listed": [None, StartMember, None, None, None],
    "not listed": [None, None, StopMember, StopMember, None],
    "live": [StopMember, None, None, None, None],
    "over": [Acknowledge, None, ReportExit, ReportExit, ReportExit],
    "keeper lost": [None, None, ReportExit, ReportExit, None],
    "taken": [None, Acknowledge, Acknowledge, Acknowledge, Acknowledge],
}
"""For each fact the effect when the attempt is unknown, claimed, sent, live, ended."""

STAGES: Final = ("unknown", *(stage.value for stage in Stage))


@pytest.mark.parametrize(
    ("fact", "stage", "wanted"),
    [
        (fact, stage, wanted)
        for fact, row in EXPECTED.items()
        for stage, wanted in zip(STAGES, row, strict=True)
        if (fact, stage) != ("over", "claimed")  # a keeper cannot end what it was not asked to start
    ],
)
def test_each_fact_in_each_stage_has_the_effect_of_the_table(fact: str, stage: str, wanted: type | None) -> None:
    machine = node() if stage == "unknown" else at(Stage(stage))
    effects = FACTS[fact](machine)
    assert [type(effect) for effect in effects] == ([wanted] if wanted else [])
