"""Which of the published reasons is a job's own."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from shunter.domain.ids import JobId, NodeName
from shunter.domain.job import Job, Priority, Request
from shunter.domain.outcome import Exit, FailureClass, classify
from shunter.domain.phase import PastAttempt, Queued
from shunter.domain.reason import BackingOff, HeldBack, NotYetSeen, SchedulerFails
from shunter.gateway.reasons import Reasons
from shunter.scheduling.plan import Decision, Refusal

ONE = Job(JobId(1), "train", "ada", Request(1), 1.0)
LOST = classify(Exit(70.0, failure=FailureClass.KEEPER_LOST), cancelled=False)
FAILING = SchedulerFails(5.0, 3, "KeyError: 'x'")


def queued(*failed_on: str, not_before_s: float = 0.0, since_s: float = -1.0) -> Queued:
    past = (PastAttempt(1, tuple(map(NodeName, failed_on)), LOST, 9.0, 2.0),) if failed_on else ()
    return Queued(time.time() if since_s < 0 else since_s, not_before_s=not_before_s, past=past)


def published(*refusals: Refusal, failing: SchedulerFails | None = None, epoch: int = 1) -> bytes:
    return msgspec.json.encode(Decision(epoch, 1.0, refusals, failing=failing))


def refusal(behind: int, *avoid: str, rank: int = 1) -> Refusal:
    return Refusal(rank, ONE.request, JobId(1), 1, HeldBack(behind), tuple(map(NodeName, avoid)))


def test_a_reason_is_for_the_class_the_request_and_the_nodes_that_failed_the_job() -> None:
    reasons = Reasons(published(refusal(7, "n1"), refusal(8), refusal(9, "n1", "n2"), refusal(10, rank=0)))
    assert reasons.of(ONE, queued()) == HeldBack(8)
    assert reasons.of(ONE, queued("n1")) == HeldBack(7)
    assert reasons.of(ONE, queued("n2", "n1")) == HeldBack(9)
    assert reasons.of(ONE, queued("n1", since_s=1.0)) == HeldBack(8), "they are forgiven by now"
    assert reasons.of(msgspec.structs.replace(ONE, priority=Priority.HIGH), queued()) == HeldBack(10)
    assert reasons.of(msgspec.structs.replace(ONE, request=Request(2)), queued()) == NotYetSeen()


def test_what_an_older_leader_said_is_for_all_of_class_and_request() -> None:
    decision: Any = msgspec.json.decode(published(refusal(8)))
    del decision["refusals"][0]["avoid"], decision["failing"]
    reasons = Reasons(msgspec.json.encode(decision))
    assert reasons.of(ONE, queued()) == reasons.of(ONE, queued("n1")) == HeldBack(8)
    assert reasons.failing(1) is None


def test_a_job_that_avoids_nothing_does_not_get_the_reason_of_one_that_does() -> None:
    assert Reasons(published(refusal(7, "n1"))).of(ONE, queued()) == NotYetSeen()


def test_while_passes_fail_that_is_why_all_wait_but_for_a_pause() -> None:
    reasons = Reasons(published(refusal(8), failing=FAILING))
    later = time.time() + 1_000
    assert reasons.of(ONE, queued()) == FAILING
    assert reasons.of(ONE, queued(not_before_s=later)) == BackingOff(later, 0)


def test_only_the_leader_that_leads_now_can_be_failing() -> None:
    reasons = Reasons(published(failing=FAILING, epoch=4))
    assert (reasons.failing(4), reasons.failing(5), Reasons(None).failing(0)) == (FAILING, None, None)


def test_before_the_first_pass_no_reason_is_known() -> None:
    assert Reasons(None).of(ONE, queued()) == NotYetSeen()
