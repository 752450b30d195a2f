"""What a claim and an exit become: gangs, retries and their bounds."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given

from shunter.domain.event import (
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
)
from shunter.domain.ids import NodeName
from shunter.domain.job import Job
from shunter.domain.outcome import INFRASTRUCTURE, Exit, FailureClass, Result
from shunter.domain.phase import (
    Ended,
    MemberExit,
    Phase,
    Queued,
    Reserved,
    Running,
    StopCause,
    Stopping,
)
from shunter.domain.retry import BACKOFF_CAP_S, backoff_s, on_claim, on_exit, on_lost, verdict
from shunter.domain.transition import apply
from tests.strategies import BRIEF, Life, lives
from tests.unit.domain.samples import BAD, FINE, GONE, KILLED, NOT_STARTED, gang, job

SOLO, TRIO = gang("n1"), gang("n1", "n2", "n3")


def running(*exits: tuple[int, Exit], retries: int = 0) -> Running:
    return Running(1, TRIO, 5.0, tuple(MemberExit(*exit) for exit in exits), retries)


def stopping(*exits: tuple[int, Exit], cause: StopCause = StopCause.MEMBER_FAILED) -> Stopping:
    return Stopping(1, TRIO, 5.0, cause, 6.0, tuple(MemberExit(*exit) for exit in exits))


# claims


def test_the_only_claim_starts_the_attempt() -> None:
    assert on_claim(Reserved(1, SOLO, 4.0), 0, at_s=5.0, by="n1") == Started(5.0, "n1", 0)


def test_invariant_6_a_gang_starts_only_with_its_last_member() -> None:
    phase: Phase = Reserved(1, TRIO, 4.0)
    seen = []
    for rank in (2, 0, 1):
        assert isinstance(phase, Reserved)
        event = on_claim(phase, rank, at_s=5.0, by="n")
        seen.append(type(event))
        phase = apply(phase, event)
    assert seen == [MemberClaimed, MemberClaimed, Started]


def test_a_claim_that_comes_twice_does_not_stand_for_another_member() -> None:
    claim = on_claim(Reserved(1, TRIO, 4.0, claimed=(0, 1)), 1, at_s=5.0, by="n2")
    assert claim == MemberClaimed(5.0, "n2", 1)


# gangs


def test_a_member_that_ends_well_leaves_the_others_running() -> None:
    assert on_exit(job(nodes=3), running(), 1, FINE, by="n2") == MemberExited(50.0, "n2", 1, FINE)


@pytest.mark.parametrize("exit", [BAD, KILLED, GONE, NOT_STARTED, Exit(9.0)])
def test_a_failing_member_of_a_running_gang_fails_the_gang(exit: Exit) -> None:
    assert on_exit(job(nodes=3), running((0, FINE)), 1, exit, by="n2") == MemberFailed(exit.ended_s, "n2", 1, exit)


def test_a_failing_member_of_a_gang_that_stops_already_is_only_noted() -> None:
    assert on_exit(job(nodes=3), stopping((0, BAD)), 1, KILLED, by="n2") == MemberExited(70.0, "n2", 1, KILLED)


def test_the_last_member_ends_the_job() -> None:
    event = on_exit(job(nodes=3), running((2, FINE), (0, FINE)), 1, FINE, by="n2")
    assert isinstance(event, Exited)
    assert event.outcome.result is Result.SUCCEEDED


def test_the_first_bad_exit_speaks_for_the_gang_and_names_its_member_and_node() -> None:
    event = on_exit(job(nodes=3), stopping((0, FINE), (2, BAD)), 1, KILLED, by="n2")
    assert isinstance(event, Exited)
    outcome = event.outcome
    assert (outcome.result, outcome.code, outcome.signal) == (Result.FAILED, 3, None)
    assert outcome.message == "member 2 on n3: exit code 3"


def test_a_gang_whose_node_was_lost_is_retried_though_its_other_members_were_killed() -> None:
    event = on_exit(job(nodes=3), stopping((2, GONE), (0, KILLED)), 1, KILLED, by="n2")
    assert isinstance(event, Requeued)
    assert event.outcome.message == "member 2 on n3: node n1 was silent for 30 s"


def test_a_gang_that_failed_by_itself_is_not_retried_though_a_node_was_lost_later() -> None:
    assert isinstance(on_exit(job(nodes=3), stopping((0, BAD), (1, KILLED)), 2, GONE, by="c"), Exited)


def test_a_doubled_exit_report_does_not_stand_for_a_member_that_still_runs() -> None:
    once = running((0, FINE))
    twice = apply(once, on_exit(job(nodes=3), once, 0, FINE, by="n1"))
    assert twice == once
    event = on_exit(job(nodes=3), running((0, FINE), (1, FINE)), 1, BAD, by="n2")
    assert event == MemberExited(60.0, "n2", 1, BAD)


def test_a_single_job_has_no_member_in_its_message() -> None:
    assert verdict(Running(1, SOLO, 5.0), (MemberExit(0, BAD),)).message == "exit code 3"


# retries


@pytest.mark.parametrize("failure", sorted(INFRASTRUCTURE))
def test_infrastructure_failures_go_back_to_the_queue(failure: FailureClass) -> None:
    event = on_exit(job(), Running(1, SOLO, 5.0), 0, Exit(80.0, failure=failure), by="c")
    assert isinstance(event, Requeued)
    assert (event.outcome.result, event.outcome.failure) == (Result.LOST, failure)


@pytest.mark.parametrize("failure", sorted(set(FailureClass) - INFRASTRUCTURE))
def test_what_the_job_did_itself_is_final(failure: FailureClass) -> None:
    assert isinstance(on_exit(job(), Running(1, SOLO, 5.0), 0, Exit(80.0, failure=failure), by="n1"), Exited)


def test_invariant_8_infrastructure_retries_back_off_and_are_bounded() -> None:
    phase: Phase = Queued(0.0)
    waits = []
    for _ in range(4):
        phase = apply(apply(phase, Placed(1.0, "c", SOLO)), Started(2.0, "n1", 0))
        assert isinstance(phase, Running)
        phase = apply(phase, on_exit(job(max_retries=3), phase, 0, GONE, by="c"))
        if isinstance(phase, Queued):
            waits.append(phase.not_before_s - GONE.ended_s)
    assert waits == [1.0, 2.0, 4.0]
    assert isinstance(phase, Ended)
    assert (phase.outcome.result, phase.retries, phase.attempt) == (Result.LOST, 3, 4)


def test_a_job_without_retries_is_lost_at_once() -> None:
    event = on_exit(job(max_retries=0), Running(1, SOLO, 5.0), 0, GONE, by="c")
    assert isinstance(event, Exited)
    assert event.outcome.result is Result.LOST


def test_an_attempt_that_never_started_uses_up_retries_too() -> None:
    retried = on_exit(job(max_retries=3), Running(3, SOLO, 5.0, retries=2), 0, NOT_STARTED, by="n1")
    assert isinstance(retried, Requeued)
    lost = on_exit(job(max_retries=3), Running(4, SOLO, 5.0, retries=3), 0, NOT_STARTED, by="n1")
    assert isinstance(lost, Exited)


def test_backoff_doubles_up_to_its_cap() -> None:
    assert [backoff_s(retries) for retries in (0, 1, 2, 8, 9, 1_000)] == [1, 2, 4, 256, BACKOFF_CAP_S, BACKOFF_CAP_S]


# lost nodes


N1, N2 = NodeName("n1"), NodeName("n2")


@pytest.mark.parametrize("claimed", [(), (0,), (0, 2), (1, 2)])
def test_what_was_only_reserved_on_a_lost_node_goes_back_without_a_retry(claimed: tuple[int, ...]) -> None:
    phase = Reserved(2, TRIO, 4.0, claimed=claimed, retries=1)
    event = on_lost(job(nodes=3, max_retries=1), phase, N2, GONE, by="c")
    assert event == Returned(GONE.ended_s, "c", GONE.message)
    after = apply(phase, event)
    assert isinstance(after, Queued)
    assert (after.retries, after.past) == (1, ())


def test_what_ran_on_a_lost_node_is_retried() -> None:
    event = on_lost(job(), Running(1, SOLO, 5.0), N1, GONE, by="c")
    assert isinstance(event, Requeued)
    assert (event.at_s, event.by, event.not_before_s) == (GONE.ended_s, "c", GONE.ended_s + 1.0)
    assert (event.outcome.failure, event.outcome.message) == (FailureClass.NODE_LOST, GONE.message)


@pytest.mark.parametrize(("max_retries", "retries"), [(0, 0), (3, 3)])
def test_what_ran_on_a_lost_node_and_has_no_retries_left_ends_as_lost(max_retries: int, retries: int) -> None:
    event = on_lost(job(max_retries=max_retries), Running(4, SOLO, 5.0, retries=retries), N1, GONE, by="c")
    assert isinstance(event, Exited)
    assert (event.outcome.result, event.outcome.failure) == (Result.LOST, FailureClass.NODE_LOST)


@pytest.mark.parametrize("retries", [0, 3])
def test_a_cancelled_attempt_on_a_lost_node_ends_as_cancelled(retries: int) -> None:
    phase = Stopping(1, SOLO, 5.0, StopCause.CANCELLED, 6.0, retries=retries)
    event = on_lost(job(), phase, N1, GONE, by="c")
    assert isinstance(event, Exited)
    assert event.outcome.result is Result.CANCELLED


def test_a_lost_node_fails_the_running_gang_for_the_member_that_it_had() -> None:
    assert on_lost(job(nodes=3), running(), N2, GONE, by="c") == MemberFailed(GONE.ended_s, "c", 1, GONE)
    assert on_lost(job(nodes=3), running((0, FINE)), N2, GONE, by="c") == MemberFailed(GONE.ended_s, "c", 1, GONE)


def test_a_gang_that_stops_already_only_notes_a_lost_member() -> None:
    assert on_lost(job(nodes=3), stopping((0, BAD)), N2, GONE, by="c") == MemberExited(GONE.ended_s, "c", 1, GONE)


@pytest.mark.parametrize("exit", [FINE, BAD])
def test_a_member_that_had_ended_before_its_node_was_lost_needs_nothing(exit: Exit) -> None:
    assert on_lost(job(nodes=3), stopping((1, exit)), N2, GONE, by="c") is None
    assert on_lost(job(nodes=3), running((1, FINE), (0, FINE)), N2, GONE, by="c") is None


def test_the_last_member_of_a_gang_is_lost() -> None:
    event = on_lost(job(nodes=3), running((0, FINE), (2, FINE)), N2, GONE, by="c")
    assert isinstance(event, Requeued)
    assert event.outcome.message == f"member 1 on n2: {GONE.message}"
    failed_itself = on_lost(job(nodes=3), stopping((0, BAD), (2, KILLED)), N2, GONE, by="c")
    assert isinstance(failed_itself, Exited)
    assert failed_itself.outcome.code == 3


def test_a_gang_whose_nodes_are_lost_one_by_one_is_requeued_once() -> None:
    phase: Phase = running()
    for name in ("n3", "n1", "n2"):
        assert isinstance(phase, Running | Stopping)
        event = on_lost(job(nodes=3), phase, NodeName(name), GONE, by="c")
        assert event is not None
        phase = apply(phase, event)
    assert isinstance(phase, Queued)
    assert phase.retries == 1
    assert [past.outcome.message for past in phase.past] == [f"member 2 on n3: {GONE.message}"]


# cancels


@pytest.mark.parametrize("exit", [FINE, BAD, KILLED, GONE, NOT_STARTED])
def test_invariant_9_a_cancel_wins_over_every_end_of_the_attempt(exit: Exit) -> None:
    phase = stopping((0, GONE), (2, FINE), cause=StopCause.CANCELLED)
    event = on_exit(job(nodes=3), phase, 1, exit, by="n2")
    assert isinstance(event, Exited)
    assert event.outcome.result is Result.CANCELLED


# whole lives


@given(lives())
@BRIEF
def test_invariant_9_a_life_in_which_a_started_job_was_cancelled_ends_only_as_cancelled(life: Life) -> None:
    asked = False
    for _, event, after, _ in life.steps:
        asked = asked or (isinstance(event, StopAsked) and event.cause is StopCause.CANCELLED)
        if asked:
            assert isinstance(after, Stopping | Ended), f"{after} after {event}"
            if isinstance(after, Ended):
                assert after.outcome.result is Result.CANCELLED


@given(lives())
@BRIEF
def test_invariant_3_an_attempt_is_over_only_when_every_member_has_ended(life: Life) -> None:
    ended: set[int | None] = set()
    for before, event, _, exited in life.steps:
        ended = set() if isinstance(event, Started) else ended | {exited} - {None}
        if isinstance(event, Exited | Requeued):
            assert isinstance(before, Running | Stopping)
            assert ended == set(range(len(before.allocation.shares))), f"{event} when only {ended} ended"


@given(lives())
@BRIEF
def test_invariant_8_retries_never_exceed_the_job_s_limit_and_attempts_only_grow(life: Life) -> None:
    attempts = [life.first.attempt]
    for _, event, after, _ in life.steps:
        assert after.retries <= life.job.max_retries
        if isinstance(event, Placed):
            attempts.append(after.attempt)
    assert all(later - earlier in (0, 1) for earlier, later in pairwise(attempts))


@given(lives())
@BRIEF
def test_invariant_1_from_wherever_a_life_stands_it_reaches_an_end(life: Life) -> None:
    phase = life.phase
    for _ in range(3 * life.job.request.nodes + 1):
        if isinstance(phase, Ended):
            return
        phase = apply(phase, _next_good_event(life.job, phase))
    assert isinstance(phase, Ended), f"still {phase}"


def _next_good_event(job: Job, phase: Queued | Reserved | Running | Stopping) -> Event:
    match phase:
        case Queued():
            return Placed(1.0, "c", gang(*(f"n{rank}" for rank in range(job.request.nodes))))
        case Reserved():
            missing = set(range(job.request.nodes)) - set(phase.claimed)
            return on_claim(phase, min(missing), at_s=2.0, by="n")
        case _:
            left = set(range(job.request.nodes)) - {member.rank for member in phase.exits}
            return on_exit(job, phase, min(left), FINE, by="n")
