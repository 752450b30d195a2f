"""The one table of legal transitions. Nothing else changes a phase.

The Lua scripts of the store carry the same pairs, and a test compares them; the diagram in docs/architecture.md is
made from this table, and a test fails when it is stale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

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
    event_tag,
)
from shunter.domain.outcome import FailureClass, Outcome, Result
from shunter.domain.phase import (
    PAST_KEPT,
    Ended,
    MemberExit,
    PastAttempt,
    Phase,
    Queued,
    Reserved,
    Running,
    StopCause,
    Stopping,
    phase_tag,
)
from shunter.errors import IllegalTransition


def reserve(phase: Queued, event: Placed) -> Reserved:
    return Reserved(phase.attempt + 1, event.allocation, event.at_s, (), phase.retries, phase.past)


def drop(phase: Queued, event: Cancelled) -> Ended:
    return Ended(_cancelled(event), event.at_s, phase.attempt, retries=phase.retries, past=phase.past)


def claim_member(phase: Reserved, event: MemberClaimed) -> Reserved:
    return replace(phase, claimed=tuple(sorted({*phase.claimed, event.rank})))


def start(phase: Reserved, event: Started) -> Running:
    return Running(phase.attempt, phase.allocation, event.at_s, (), phase.retries, phase.past)


def give_back(phase: Reserved, event: Returned) -> Queued:
    # The attempt never started: its number is used again, and the allocation id tells the two decisions apart.
    return Queued(event.at_s, phase.attempt - 1, phase.retries, past=phase.past)


def withdraw(phase: Reserved, event: Cancelled) -> Ended:
    return Ended(_cancelled(event), event.at_s, phase.attempt, retries=phase.retries, past=phase.past)


def ask_to_stop(phase: Running, event: StopAsked) -> Stopping:
    return Stopping(
        phase.attempt,
        phase.allocation,
        phase.started_s,
        event.cause,
        event.at_s,
        phase.exits,
        phase.retries,
        phase.past,
    )


def ask_again(phase: Stopping, event: StopAsked) -> Stopping:
    # A cancel wins over every other cause, and is never taken back.
    if phase.cause is StopCause.CANCELLED:
        return phase
    return replace(phase, cause=event.cause)


def with_exit(exits: tuple[MemberExit, ...], member: MemberExit) -> tuple[MemberExit, ...]:
    """Return *exits* and *member*, the first report of a rank winning.

    A doubled report must not count twice: it would stand for a member that still runs, and free its GPUs.
    """
    return exits if any(known.rank == member.rank for known in exits) else (*exits, member)


def note_exit(phase: Running, event: MemberExited) -> Running:
    return replace(phase, exits=with_exit(phase.exits, MemberExit(event.rank, event.exit)))


def note_exit_while_stopping(phase: Stopping, event: MemberExited) -> Stopping:
    return replace(phase, exits=with_exit(phase.exits, MemberExit(event.rank, event.exit)))


def fail_gang(phase: Running, event: MemberFailed) -> Stopping:
    exits = with_exit(phase.exits, MemberExit(event.rank, event.exit))
    return replace(ask_to_stop(phase, StopAsked(event.at_s, event.by, StopCause.MEMBER_FAILED)), exits=exits)


def end(phase: Running, event: Exited) -> Ended:
    return Ended(event.outcome, event.at_s, phase.attempt, phase.started_s, phase.allocation, phase.retries, phase.past)


def end_stopped(phase: Stopping, event: Exited) -> Ended:
    return Ended(event.outcome, event.at_s, phase.attempt, phase.started_s, phase.allocation, phase.retries, phase.past)


def requeue(phase: Running, event: Requeued) -> Queued:
    return _again(phase, event)


def requeue_stopped(phase: Stopping, event: Requeued) -> Queued:
    return _again(phase, event)


def _again(phase: Running | Stopping, event: Requeued) -> Queued:
    past = PastAttempt(phase.attempt, phase.allocation.nodes, event.outcome, event.at_s, phase.started_s)
    retries = phase.retries + 1
    return Queued(event.at_s, phase.attempt, retries, event.not_before_s, (*phase.past, past)[-PAST_KEPT:])


def _cancelled(event: Cancelled) -> Outcome:
    return Outcome(Result.CANCELLED, failure=FailureClass.CANCELLED, message=f"cancelled by {event.by} before it ran")


Step = Callable[[Any, Any], Phase]

TRANSITIONS: Final[Mapping[tuple[type[Phase], type[Event]], Step]] = {
    (Queued, Placed): reserve,
    (Queued, Cancelled): drop,
    (Reserved, MemberClaimed): claim_member,
    (Reserved, Started): start,
    (Reserved, Returned): give_back,
    (Reserved, Cancelled): withdraw,
    (Running, StopAsked): ask_to_stop,
    (Running, MemberExited): note_exit,
    (Running, MemberFailed): fail_gang,
    (Running, Exited): end,
    (Running, Requeued): requeue,
    (Stopping, StopAsked): ask_again,
    (Stopping, MemberExited): note_exit_while_stopping,
    (Stopping, Exited): end_stopped,
    (Stopping, Requeued): requeue_stopped,
}


def apply(phase: Phase, event: Event) -> Phase:
    """Return the phase after *event*. Raises IllegalTransition, naming both, for a pair that is not in TRANSITIONS."""
    step = TRANSITIONS.get((type(phase), type(event)))
    if step is None:
        raise IllegalTransition(
            f"{event_tag(event)} cannot happen to a job that is {phase_tag(phase)}: {event} {phase}"
        )
    return step(phase, event)


def targets() -> Mapping[tuple[type[Phase], type[Event]], type[Phase]]:
    """Return each pair of the table with the phase it leads to, read from the functions' return annotations."""
    names: dict[str, type[Phase]] = {kind.__name__: kind for kind in (Queued, Reserved, Running, Stopping, Ended)}
    return {pair: names[step.__annotations__["return"]] for pair, step in TRANSITIONS.items()}
