"""Leases, rule by rule."""

from __future__ import annotations

import math

import pytest
from msgspec.structs import replace

from shunter.domain.ids import NodeName
from shunter.domain.lease import (
    FAST,
    NORMAL,
    RESTART,
    SETTLE_S,
    TERMS,
    Granted,
    Lease,
    LeaseTerms,
    Mark,
    Old,
    Renewal,
    Stale,
    Standing,
    Watch,
    check_terms,
    fastest,
    renewed,
    to_end,
)
from shunter.domain.retry import backoff_s
from shunter.errors import InvalidInput

N1, N2 = NodeName("n1"), NodeName("n2")


def test_shipped_terms_are_right_and_retries_settle() -> None:
    check_terms(NORMAL)
    check_terms(FAST)
    check_terms(RESTART)
    assert backoff_s(0) >= SETTLE_S


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        (LeaseTerms(0, 20, 30, 1), "lease.renew_s"),
        (LeaseTerms(2, math.nan, 30, 1), "lease.fence_after_s"),
        (LeaseTerms(4, 20, 30, 1), "lease.fence_after_s"),
        (LeaseTerms(2, 20, 21, 1), "lease.requeue_after_s"),
        (LeaseTerms(2, 20, 30, -1), "lease.freeze_within_s"),
    ],
)
def test_contradicting_terms_are_refused(terms: LeaseTerms, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_terms(terms)
    assert caught.value.field == field
    assert caught.value.fix


def test_deadline_counts_from_the_question() -> None:
    lease, asked = Lease(NORMAL, 100.0).ask(100.5)
    assert not lease.open(100.5)
    lease = lease.heard(asked, Granted(), 102.0)
    assert lease.until_s == 120.5
    assert lease.open(120.4) and not lease.open(120.5)
    assert not lease.may_claim(100.9) and lease.may_claim(101.0)


def test_only_the_last_question_counts_but_stale_always_does() -> None:
    lease, first = Lease(NORMAL, 0.0).ask(0.0)
    lease, second = lease.ask(2.0)
    lease = lease.heard(second, Granted(), 2.1)
    assert lease.heard(first, Granted("x"), 2.2) == lease
    assert lease.heard(second, Old(), 2.2) == lease
    late = lease.heard(first, Stale(), 2.2)
    assert late.stale and not late.open(2.2)


def test_unfenced_holds_by_a_second_answer_and_fenced_is_said_when_carried_out() -> None:
    lease, asked = Lease(NORMAL, 0.0).ask(0.0)
    lease = lease.heard(asked, Granted("r"), 0.1)
    assert lease.until_s == 20.0
    lease, asked = lease.carried_out(1).ask(2.0)
    assert asked.fenced and asked.done == 1
    lease = lease.heard(asked, Granted("r"), 2.1)
    assert lease.until_s is None
    lease, asked = lease.carried_out(2).ask(4.0)
    assert not asked.fenced
    lease = lease.heard(asked, Granted(), 4.1)
    assert not lease.ask(6.0)[1].fenced
    assert lease.carried_out(3).ask(6.0)[1].fenced


def test_store_applies_each_renewal_once_and_in_order() -> None:
    mark, record, answer = renewed(Mark("w"), "", "w", Renewal(2, 0.0, 0, False), True)
    assert (mark, record, answer) == (Mark("w", 2), "w.2", Granted("w.2"))
    assert renewed(mark, record, "w", Renewal(1, 0.0, 0, True), False) == (mark, record, Old())
    assert renewed(mark, record, "w", Renewal(3, 0.0, 2, False), False) == (Mark("w", 3, 2), "w.2", Granted())
    assert renewed(mark, record, "w", Renewal(3, 0.0, 2, True), False) == (Mark("w", 3, 2), "", Granted())


def test_what_is_younger_than_the_question_stays() -> None:
    assert to_end({"a": 1.0, "b": 1.0, "c": 6.0}, ["b"], Renewal(3, 5.0, 2, True)) == ["a"]


def watched(marks: dict[float, dict[NodeName, int]], until: float, run: str = "r") -> tuple[Watch, list[NodeName]]:
    """Check each second; *marks* has from when on which number stands."""
    watch, lost, at = Watch(NORMAL, run), [], 0.0
    now: dict[NodeName, Mark] = {}
    while at <= until:
        now |= {node: Mark("w", number) for node, number in marks.get(at, {}).items()}
        now |= {N2: Mark("w", int(at))}
        watch, found = watch.check(at, run, now, [])
        lost, at = found.lost, at + 1
    return watch, lost


def test_a_mark_that_stands_for_requeue_after_is_a_lost_node() -> None:
    assert watched({0.0: {N1: 1}}, 29.0)[1] == []
    watch, lost = watched({0.0: {N1: 1}}, 30.0)
    assert lost == [N1]
    marks = {N1: Mark("w", 1), N2: Mark("w", 99)}
    assert watch.check(31.0, "r", marks, [N1])[1].standing[N1] is Standing.UNFENCED
    assert watch.check(31.0, "other", marks, [])[1].lost == []
    assert watch.check(33.0, "r", marks, [])[1].lost == []
    assert watched({0.0: {N1: 1}, 15.0: {N1: 2}}, 44.0)[1] == []


def test_nobody_is_lost_while_all_are_silent_nor_when_the_first_returns() -> None:
    watch, marks = Watch(NORMAL, "r"), {N1: Mark("w", 1), N2: Mark("w", 1)}
    for at in range(60):
        watch, found = watch.check(float(at), "r", marks, [])
        assert not found.lost
    assert found.standing[N1] is Standing.ALL_SILENT
    assert not watch.check(60.0, "r", marks | {N2: Mark("w", 2)}, [])[1].lost


def test_after_a_restart_of_the_store_each_node_carries_out_an_answer_first() -> None:
    watch, found = Watch(NORMAL, "old").check(0.0, "new", {N1: Mark("w", 7, 6)}, [])
    assert found.behind == {N1}
    watch, found = watch.check(1.0, "new", {N1: Mark("w", 8, 7)}, [])
    assert found.behind == {N1}
    watch, found = watch.check(2.0, "new", {N1: Mark("w", 9, 8)}, [])
    assert not found.behind and watch.ready_run == "new"
    again = replace(watch, ready_run="old").sightings[N1]
    assert replace(again, mark=Mark("v", 0)).caught_up is False
    assert replace(again, mark=Mark("v", 2, 1)).caught_up


def test_each_node_is_judged_by_its_own_terms() -> None:
    marks = {NodeName(name): Mark(name) for name in ("normal", "fast", "restart", "renews")}
    terms = {NodeName(name): TERMS[name] for name in ("normal", "fast", "restart")}
    watch, _ = Watch(FAST, ready_run="r").check(0.0, "r", marks, (), terms)
    lost: dict[str, float] = {}
    for step in range(1, 700):
        marks[NodeName("renews")] = Mark("renews", step)
        watch, found = watch.check(step / 2, "r", marks, (), terms)
        for node in found.lost:
            lost.setdefault(node, step / 2)
    assert lost == {name: TERMS[name].requeue_after_s for name in ("normal", "fast", "restart")}


def test_that_nobody_renews_is_told_by_the_fastest_terms() -> None:
    assert fastest([NORMAL, FAST, RESTART]) is FAST
    assert fastest([]) is NORMAL
