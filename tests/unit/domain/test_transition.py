"""The table of transitions: every pair is legal or refused, and what each legal one keeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from msgspec.structs import replace

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
    event_tag,
)
from shunter.domain.outcome import FailureClass, Result
from shunter.domain.phase import (
    HOLDS_GPUS,
    LIVE,
    PAST_KEPT,
    TERMINAL,
    Ended,
    MemberExit,
    Phase,
    Queued,
    Reserved,
    Running,
    StopCause,
    Stopping,
    allocation_id,
    phase_tag,
)
from shunter.domain.transition import TRANSITIONS, apply, targets
from shunter.errors import IllegalTransition
from tests.strategies import BRIEF, Life, lives
from tests.unit.domain.samples import BAD, EVENTS, FINE, LOST, PAIR, PAST, PHASES

LEGAL: dict[str, dict[str, str]] = {
    "queued": {"placed": "reserved", "cancelled": "ended"},
    "reserved": {"member_claimed": "reserved", "started": "running", "returned": "queued", "cancelled": "ended"},
    "running": {
        "stop_asked": "stopping",
        "member_exited": "running",
        "member_failed": "stopping",
        "exited": "ended",
        "requeued": "queued",
    },
    "stopping": {"stop_asked": "stopping", "member_exited": "stopping", "exited": "ended", "requeued": "queued"},
    "ended": {},
}
"""The design, written a second time by hand: a slip in the table must not also be a slip in its test."""

SAMPLES = {phase_tag(kind): phase for kind, phase in PHASES.items()}
HAPPENINGS = {event_tag(kind): event for kind, event in EVENTS.items()}
ALL_PAIRS = [(phase, event) for phase in SAMPLES for event in HAPPENINGS]
LEGAL_PAIRS = [(phase, event) for phase, events in LEGAL.items() for event in events]


@pytest.mark.parametrize(("phase", "event"), ALL_PAIRS)
def test_every_pair_of_phase_and_event_is_legal_or_raises(phase: str, event: str) -> None:
    if event in LEGAL[phase]:
        assert phase_tag(apply(SAMPLES[phase], HAPPENINGS[event])) == LEGAL[phase][event]
    else:
        with pytest.raises(IllegalTransition, match=f"{event} cannot happen to a job that is {phase}"):
            apply(SAMPLES[phase], HAPPENINGS[event])


@pytest.mark.parametrize("event", HAPPENINGS)
def test_ended_absorbs_every_event(event: str) -> None:
    with pytest.raises(IllegalTransition):
        apply(SAMPLES["ended"], HAPPENINGS[event])


@pytest.mark.parametrize(("phase", "event"), LEGAL_PAIRS)
def test_targets_agree_with_what_the_functions_return(phase: str, event: str) -> None:
    pair = (type(SAMPLES[phase]), type(HAPPENINGS[event]))
    assert type(apply(SAMPLES[phase], HAPPENINGS[event])) is targets()[pair]


@pytest.mark.parametrize(("phase", "event"), LEGAL_PAIRS)
def test_apply_leaves_its_input_as_it_was_and_answers_the_same_again(phase: str, event: str) -> None:
    before, happening = SAMPLES[phase], HAPPENINGS[event]
    copy = replace(before)
    assert apply(before, happening) == apply(before, happening)
    assert before == copy


def test_submitted_stands_in_no_pair() -> None:
    assert not [pair for pair in TRANSITIONS if pair[1] is Submitted]


def test_every_event_but_submitted_has_a_use() -> None:
    assert {event for _, event in TRANSITIONS} == set(EVENTS) - {Submitted}


def _reachable(start: type[Phase]) -> set[type[Phase]]:
    seen, todo = {start}, [start]
    while todo:
        here = todo.pop()
        new = {target for (source, _), target in targets().items() if source is here} - seen
        seen |= new
        todo += new
    return seen


def test_every_phase_is_reachable_from_queued() -> None:
    assert _reachable(Queued) == set(PHASES)


@pytest.mark.parametrize("kind", PHASES, ids=phase_tag)
def test_every_phase_can_reach_ended(kind: type[Phase]) -> None:
    assert Ended in _reachable(kind)


@pytest.mark.parametrize("kind", PHASES, ids=phase_tag)
def test_phases_that_hold_gpus_are_those_with_an_allocation_id(kind: type[Phase]) -> None:
    holds = kind in HOLDS_GPUS
    assert allocation_id(PHASES[kind]) == (PAIR.id if holds else "-")
    assert set(LIVE) < set(HOLDS_GPUS)
    assert not set(TERMINAL) & set(HOLDS_GPUS)


@given(lives())
@BRIEF
def test_invariant_7_every_phase_change_of_a_life_is_in_the_table(life: Life) -> None:
    for before, event, after, _ in life.steps:
        assert targets()[type(before), type(event)] is type(after)


@given(lives())
@BRIEF
def test_a_life_replayed_from_its_events_reaches_the_same_phase(life: Life) -> None:
    phase: Phase = life.first
    for step in life.steps:
        phase = apply(phase, step.event)
    assert phase == life.phase


# what each transition keeps


def test_placing_begins_the_next_attempt() -> None:
    reserved = apply(Queued(10.0, attempt=4, retries=2, past=PAST), Placed(20.0, "c", PAIR))
    assert reserved == Reserved(5, PAIR, 20.0, claimed=(), retries=2, past=PAST)


def test_a_returned_reservation_gives_its_attempt_number_back() -> None:
    returned = apply(Reserved(5, PAIR, 11.0, retries=2, past=PAST), Returned(20.0, "c", "node left"))
    assert returned == Queued(20.0, attempt=4, retries=2, past=PAST)
    again = apply(returned, Placed(30.0, "c", PAIR))
    assert isinstance(again, Reserved)
    assert again.attempt == 5


def test_a_returned_reservation_counts_no_retry_and_no_past_attempt_and_waits_for_nothing() -> None:
    returned = apply(Reserved(1, PAIR, 11.0), Returned(20.0, "c", "node left"))
    assert returned == Queued(20.0)


def test_claims_are_kept_in_order_and_a_doubled_claim_counts_once() -> None:
    phase = apply(Reserved(1, PAIR, 11.0, claimed=(1,)), MemberClaimed(20.0, "n1", 0))
    assert phase == Reserved(1, PAIR, 11.0, claimed=(0, 1))
    assert apply(phase, MemberClaimed(21.0, "n1", 0)) == phase


def test_starting_keeps_attempt_allocation_retries_and_past() -> None:
    assert apply(Reserved(2, PAIR, 11.0, (0,), 1, PAST), Started(20.0, "n2", 1)) == Running(2, PAIR, 20.0, (), 1, PAST)


@pytest.mark.parametrize("kind", [Queued, Reserved])
def test_a_cancel_before_the_start_ends_the_job_at_once_and_says_who_did_it(kind: type[Phase]) -> None:
    ended = apply(PHASES[kind], Cancelled(20.0, "grace"))
    assert isinstance(ended, Ended)
    assert (ended.outcome.result, ended.outcome.failure) == (Result.CANCELLED, FailureClass.CANCELLED)
    assert ended.outcome.message == "cancelled by grace before it ran"
    assert (ended.started_s, ended.allocation, ended.retries, ended.past) == (None, None, 1, PAST)


@pytest.mark.parametrize("kind", [Running, Stopping])
def test_a_requeue_uses_up_a_retry(kind: type[Phase]) -> None:
    queued = apply(PHASES[kind], Requeued(20.0, "n2", LOST, 22.0))
    assert isinstance(queued, Queued)
    assert queued.retries == 2
    assert (queued.attempt, queued.since_s, queued.not_before_s) == (2, 20.0, 22.0)


@pytest.mark.parametrize("kind", [Running, Stopping])
def test_a_requeue_remembers_where_and_how_the_attempt_ended(kind: type[Phase]) -> None:
    queued = apply(PHASES[kind], Requeued(20.0, "n2", LOST))
    assert queued.past[:-1] == PAST
    last = queued.past[-1]
    assert (last.attempt, last.nodes, last.outcome, last.ended_s, last.started_s) == (2, ("n1", "n2"), LOST, 20.0, 12.0)


def test_only_the_newest_past_attempts_are_kept() -> None:
    phase: Phase = Queued(0.0)
    for number in range(PAST_KEPT + 3):
        at_s = float(number)
        for event in (Placed(at_s, "c", PAIR), Started(at_s, "n1", 0), Requeued(at_s, "n1", LOST)):
            phase = apply(phase, event)
    assert [past.attempt for past in phase.past] == list(range(4, PAST_KEPT + 4))
    assert (phase.attempt, phase.retries) == (PAST_KEPT + 3, PAST_KEPT + 3)


def test_a_cancel_overrides_another_cause_of_a_stop() -> None:
    stopping = apply(PHASES[Stopping], StopAsked(20.0, "ada", StopCause.CANCELLED))
    assert isinstance(stopping, Stopping)
    assert stopping.cause is StopCause.CANCELLED


@pytest.mark.parametrize("cause", StopCause)
def test_invariant_9_a_cancel_is_never_taken_back_by_a_later_cause(cause: StopCause) -> None:
    asked = apply(PHASES[Running], StopAsked(20.0, "ada", StopCause.CANCELLED))
    assert apply(asked, StopAsked(21.0, "n1", cause)) == asked


def test_asking_again_keeps_the_time_of_the_first_ask() -> None:
    again = apply(PHASES[Stopping], StopAsked(99.0, "ada", StopCause.CANCELLED))
    assert isinstance(again, Stopping)
    assert again.asked_s == 13.0


@pytest.mark.parametrize("kind", [Running, Stopping])
def test_a_member_that_ended_well_is_noted_after_the_earlier_ones(kind: type[Phase]) -> None:
    noted = apply(PHASES[kind], MemberExited(20.0, "n2", 1, FINE))
    assert isinstance(noted, kind)
    assert isinstance(noted, Running | Stopping)
    assert noted.exits == (MemberExit(0, FINE), MemberExit(1, FINE))


@pytest.mark.parametrize("kind", [Running, Stopping])
def test_a_doubled_exit_report_changes_nothing_and_the_first_one_stands(kind: type[Phase]) -> None:
    assert apply(PHASES[kind], MemberExited(20.0, "n1", 0, BAD)) == PHASES[kind]


def test_a_member_that_failed_stops_the_gang_and_is_noted() -> None:
    stopping = apply(PHASES[Running], MemberFailed(20.0, "n2", 1, BAD))
    exits = (MemberExit(0, FINE), MemberExit(1, BAD))
    assert stopping == Stopping(2, PAIR, 12.0, StopCause.MEMBER_FAILED, 20.0, exits, 1, PAST)


@pytest.mark.parametrize("kind", [Running, Stopping])
def test_an_exit_ends_the_job_with_the_outcome_it_carries(kind: type[Phase]) -> None:
    assert apply(PHASES[kind], Exited(20.0, "n2", LOST)) == Ended(LOST, 20.0, 2, 12.0, PAIR, 1, PAST)


def test_the_error_of_an_illegal_transition_shows_the_event_and_the_phase() -> None:
    event: Event = Started(20.0, "n7", 0)
    with pytest.raises(IllegalTransition) as raised:
        apply(PHASES[Ended], event)
    assert "n7" in str(raised.value)
    assert "Ended(" in str(raised.value)
