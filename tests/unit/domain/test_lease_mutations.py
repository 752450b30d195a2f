"""The model can fail: each rule, taken out, lets two attempts run at once (or worse) in a history survived otherwise.

The histories are short and made for the rule; chance (packets, clocks, how late a fence is) is drawn from seeds.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from shunter.domain import lease as rules
from shunter.domain.lease import Lease, LeaseTerms, Mark, Renewal
from tests.unit.domain.lease_model import Rules, Violation
from tests.unit.domain.lease_model_faults import Cluster, Fault, drawn

Renewed = tuple[Mark, str, rules.Answer]


class FromAnswer(Rules):
    """The deadline counts from the answer instead of the question."""

    def heard(self, lease: Lease, asked: Renewal, answer: rules.Answer, now_s: float) -> Lease:
        return (
            lease.heard(asked, answer, now_s)
            if now_s < asked.asked_s + 1
            else lease.heard(replace(asked, asked_s=now_s), answer, now_s)
        )


class RequeueEarly(Rules):
    terms = LeaseTerms(2.0, 20.0, 15.0, 1.0)


class NoMarkCheck(Rules):
    """The script that requeues does not look whether the node has renewed meanwhile."""

    rechecks_mark = False


class RecordedLate(Rules):
    """Unfenced is recorded only when a later renewal says that the node has heard of it twice."""

    def __init__(self) -> None:
        self.first: dict[str, int] = {}

    def renewed(self, mark: Mark, record: str, worker: str, asked: Renewal, unfenced: bool) -> Renewed:
        after, kept, answer = rules.renewed(mark, record, worker, asked, unfenced)
        if not unfenced or asked.done > self.first.setdefault(worker, asked.number):
            return after, kept, answer
        return after, "", rules.Granted(f"{worker}.{self.first[worker]}")


class TakenBackEarly(Rules):
    """The record goes with the fenced answer, before the node says that it enforces a deadline."""

    def renewed(self, mark: Mark, record: str, worker: str, asked: Renewal, unfenced: bool) -> Renewed:
        return rules.renewed(mark, record, worker, replace(asked, fenced=True), unfenced)


class SameRun(Rules):
    """Nobody looks at the store's run id."""

    def run_id(self, run_id: str) -> str:
        return run_id[:0]


class KeeperNeedsWorker(Rules):
    keeper_alone = False


class NoSecondCheck(Rules):
    second_check = False


class OlderProlongs(Rules):
    """An answer counts for the renewal that was asked last, whichever it answers."""

    def heard(self, lease: Lease, asked: Renewal, answer: rules.Answer, now_s: float) -> Lease:
        return lease.heard(replace(asked, number=lease.asked, asked_s=now_s), answer, now_s)


class NoLeaderCheck(Rules):
    checks_leader = False


def caught(mutation: type[Rules], history: list[Fault] | None, seeds: range) -> int | None:
    """Return the first of *seeds* in which the model objects. Without a *history*, faults are drawn."""
    for seed in seeds:
        try:
            Cluster(seed, mutation(), tick_s=1.5 if history is HISTORIES[SameRun] else 0.5).play(
                history or drawn(seed, 150.0), 200.0
            )
        except Violation:
            return seed
    return None


LONG_S = 100.0
HISTORIES = {
    FromAnswer: [Fault(30.0, "pause_worker", "n1", 40.0), Fault(30.5, "cut_out", "n1", LONG_S)],
    RequeueEarly: [Fault(30.0, "cut", "n1", LONG_S)],
    NoMarkCheck: [Fault(30.0, "cut", "n1", 30.0), Fault(62.3, "cut", "n1", LONG_S)],
    RecordedLate: [Fault(14.0, "operator", "n1", 300.0), Fault(17.9, "cut", "n1", LONG_S)],
    TakenBackEarly: [
        *(Fault(20.0, "operator", "n1", 15.0), Fault(33.0, "cut_in", "n1", 12.0), Fault(45.0, "cut", "n1", LONG_S)),
    ],
    SameRun: [
        *(Fault(30.0, "cut", "n1", 23.6), Fault(54.2, "cut", "n1", LONG_S), Fault(54.2, "restart_store", "", 0.1)),
    ],
    KeeperNeedsWorker: [Fault(30.0, "kill_worker", "n1", LONG_S)],
    NoSecondCheck: [Fault(12.0, "cut", "n1", LONG_S)],
    OlderProlongs: None,
    NoLeaderCheck: [Fault(30.0, "cut", "n1", LONG_S), Fault(60.5, "pause_leader", "", 12.0)],
}


@pytest.mark.parametrize("mutation", HISTORIES)
def test_the_model_misses_each_rule(mutation: type[Rules]) -> None:
    history = HISTORIES[mutation]
    seed = caught(mutation, history, range(200))
    assert seed is not None
    assert caught(Rules, history, range(seed, seed + 1)) is None
