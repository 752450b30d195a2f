"""A node's lease as its threads share it: which answers are obeyed, when work may be claimed, when to ask again."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any, Final, cast

import pytest

from shunter.agent.node_lease import DeclaredLost, Leased, NodeLease, Superseded
from shunter.domain.ids import Incarnation, JobId, NodeName
from shunter.domain.lease import FAST, NORMAL, SETTLE_S, Answer, Granted, Lost, Old, Stale
from shunter.domain.phase import Queued
from shunter.errors import Unavailable
from shunter.store.codec import record
from shunter.store.command import Command
from shunter.store.keys import Keys
from shunter.store.leases import Renewed
from shunter.store.redis import Store

JOINED_S: Final = 100.0
HELD: Final = {JobId(7): record(Queued(1.0), 2)}
GONE: Final = Unavailable("redis: cannot be reached", fix="it is retried")


class Clock:
    now_s = JOINED_S


CLOCK: Final = Clock()


class PlannedStore:
    """Answers renewals as planned; *asked* has what each said: token, number, done, terms, fenced, unfenced."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, int, str, int, int]] = []
        self.latency_s = 0.0
        self._plan: deque[Answer | Exception | NodeLease] = deque()

    def plan(self, *answers: Answer | Exception | NodeLease) -> None:
        """A NodeLease in place of an answer asks once more before this one is answered."""
        self._plan.extend(answers)

    def run(self, command: Command[Any]) -> Renewed:
        _, _, *said = command.parts[command.keys :]
        self.asked.append(cast("Any", tuple(said)))
        answer = self._plan.popleft()
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, NodeLease):
            assert answer.renew() is not None, "the later one is answered first"
            answer = Granted()
        CLOCK.now_s += self.latency_s
        return Renewed(answer, HELD if isinstance(answer, Granted) else {})


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    CLOCK.now_s = JOINED_S
    monkeypatch.setattr("shunter.agent.node_lease.boot_time_s", lambda: CLOCK.now_s)


@pytest.fixture
def store() -> PlannedStore:
    return PlannedStore()


def begun(store: PlannedStore, **options: Any) -> NodeLease:
    lease = NodeLease(cast("Store", store), Keys("main"), **options)
    lease.begin(NodeName("n1"), Incarnation("n1-1"))
    return lease


def obeyed(lease: NodeLease) -> Leased:
    leased = lease.renew()
    assert leased is not None
    lease.carried_out(leased.asked.number)
    return leased


def waits_s(lease: NodeLease) -> float:
    """Return how long `pause` takes, by the real clock."""
    began_s = time.monotonic()
    lease.pause()
    return time.monotonic() - began_s


# answers


def test_the_first_answer_is_to_be_obeyed_with_a_deadline_from_the_question(store: PlannedStore) -> None:
    lease = begun(store)
    assert (lease.terms, lease.until_s) == ("normal", float("-inf"))
    store.plan(Granted())
    store.latency_s = 1.5
    leased = lease.renew()
    assert leased is not None
    assert (leased.held, leased.asked.number, leased.asked.asked_s) == (HELD, 1, JOINED_S)
    assert leased.until_s == lease.until_s == JOINED_S + NORMAL.fence_after_s


def test_the_store_is_told_who_asks_and_what_was_carried_out(store: PlannedStore) -> None:
    lease = begun(store, terms="fast")
    store.plan(Granted(), Granted(), Granted())
    obeyed(lease)
    lease.renew()
    obeyed(lease)
    token = lease.token
    assert store.asked == [(token, 1, 0, "fast", 0, 0), (token, 2, 1, "fast", 1, 0), (token, 3, 1, "fast", 1, 0)]
    assert lease.until_s == JOINED_S + FAST.fence_after_s


def test_each_registration_has_a_token_of_its_own(store: PlannedStore) -> None:
    assert begun(store).token != begun(store).token


def test_an_answer_that_is_not_to_the_latest_renewal_is_of_no_use(store: PlannedStore) -> None:
    lease = begun(store)
    store.plan(lease, Granted())
    store.latency_s = 1.0
    assert lease.renew() is None
    assert [number for _, number, *_ in store.asked] == [1, 2]
    assert lease.until_s == JOINED_S + NORMAL.fence_after_s


def test_an_answer_that_a_later_renewal_was_applied_is_of_no_use(store: PlannedStore) -> None:
    lease = begun(store)
    store.plan(Granted(), Old())
    obeyed(lease)
    CLOCK.now_s += 2.0
    assert lease.renew() is None
    assert lease.until_s == JOINED_S + NORMAL.fence_after_s


@pytest.mark.parametrize(("answer", "error"), [(Stale(), Superseded), (Lost(), DeclaredLost)])
def test_who_is_superseded_or_lost_is_told_so_and_claims_nothing_more(
    store: PlannedStore, answer: Answer, error: type[Exception]
) -> None:
    lease = begun(store)
    store.plan(Granted(), answer)
    obeyed(lease)
    CLOCK.now_s += SETTLE_S
    assert lease.may_claim()
    with pytest.raises(error):
        lease.renew()
    assert not lease.may_claim()
    assert lease.until_s == float("-inf")


def test_a_renewal_that_fails_changes_nothing_and_its_number_is_used_up(store: PlannedStore) -> None:
    lease = begun(store)
    store.plan(Granted(), GONE, Granted())
    obeyed(lease)
    CLOCK.now_s += 2.0
    with pytest.raises(Unavailable):
        lease.renew()
    assert lease.until_s == JOINED_S + NORMAL.fence_after_s
    leased = lease.renew()
    assert leased is not None
    assert (leased.asked.number, leased.until_s) == (3, JOINED_S + 2.0 + NORMAL.fence_after_s)


# claims


def test_nothing_is_claimed_before_an_answer_was_carried_out(store: PlannedStore) -> None:
    lease = begun(store)
    CLOCK.now_s += SETTLE_S
    assert not lease.may_claim()
    store.plan(Granted())
    leased = lease.renew()
    assert leased is not None
    assert not lease.may_claim(), "its keeper may not enforce it yet"
    lease.carried_out(leased.asked.number)
    assert lease.may_claim()


def test_nothing_is_claimed_while_the_store_may_forget_the_registration(store: PlannedStore) -> None:
    lease = begun(store)
    store.plan(Granted())
    obeyed(lease)
    CLOCK.now_s = JOINED_S + SETTLE_S - 0.01
    assert not lease.may_claim()
    CLOCK.now_s = JOINED_S + SETTLE_S
    assert lease.may_claim()


def test_nothing_is_claimed_after_the_deadline_until_the_next_answer(store: PlannedStore) -> None:
    lease = begun(store)
    store.plan(Granted(), Granted())
    obeyed(lease)
    CLOCK.now_s = JOINED_S + NORMAL.fence_after_s - 0.01
    assert lease.may_claim()
    CLOCK.now_s = JOINED_S + NORMAL.fence_after_s
    assert not lease.may_claim()
    lease.renew()
    assert lease.may_claim()


def test_a_new_incarnation_begins_without_a_lease(store: PlannedStore) -> None:
    lease = begun(store)
    store.plan(Granted(), Granted())
    obeyed(lease)
    CLOCK.now_s += SETTLE_S
    lease.begin(NodeName("n1"), Incarnation("n1-2"))
    assert lease.until_s == float("-inf")
    CLOCK.now_s += SETTLE_S
    assert not lease.may_claim()
    lease.renew()
    assert store.asked[-1][1:3] == (1, 0)


# without a deadline


def test_a_node_runs_without_a_deadline_only_from_the_second_answer_that_names_the_record(store: PlannedStore) -> None:
    lease = begun(store, unfenced=True)
    store.plan(*[Granted("r.1")] * 3)
    assert obeyed(lease).until_s == JOINED_S + NORMAL.fence_after_s
    CLOCK.now_s = JOINED_S + SETTLE_S - 0.01
    early = obeyed(lease)
    assert early.until_s == CLOCK.now_s + NORMAL.fence_after_s, "the store may forget the record yet"
    CLOCK.now_s = JOINED_S + SETTLE_S
    assert obeyed(lease).until_s is None
    assert lease.until_s is None
    CLOCK.now_s += 1_000.0
    assert lease.may_claim()
    assert [asked[-1] for asked in store.asked] == [1, 1, 1]


def test_another_record_begins_anew(store: PlannedStore) -> None:
    lease = begun(store, unfenced=True)
    store.plan(Granted("r.1"), Granted("r.2"), Granted("r.2"))
    obeyed(lease)
    CLOCK.now_s += 2.0
    assert obeyed(lease).until_s == CLOCK.now_s + NORMAL.fence_after_s
    CLOCK.now_s += 2.0
    assert obeyed(lease).until_s is None


def test_a_node_that_is_to_have_a_deadline_again_has_one_at_once_and_says_when_it_is_enforced(
    store: PlannedStore,
) -> None:
    lease = begun(store)
    store.plan(Granted("r.1"), Granted("r.1"), Granted(), Granted())
    obeyed(lease)
    CLOCK.now_s += 2.0
    assert obeyed(lease).until_s is None
    CLOCK.now_s += 2.0
    assert obeyed(lease).until_s == CLOCK.now_s + NORMAL.fence_after_s
    lease.renew()
    assert [fenced for *_, fenced, _ in store.asked] == [0, 1, 0, 1]


# pauses


def test_the_first_answer_carried_out_is_told_to_the_leader_at_once_and_later_ones_in_time(
    store: PlannedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = begun(store, terms="fast")
    CLOCK.now_s += SETTLE_S
    store.plan(Granted(), Granted())
    obeyed(lease)
    assert waits_s(lease) < FAST.renew_s / 2
    obeyed(lease)
    assert waits_s(lease) >= FAST.renew_s


def test_a_pause_ends_early_when_it_is_hurried(store: PlannedStore) -> None:
    lease = begun(store)
    CLOCK.now_s += SETTLE_S
    hurry = threading.Timer(0.05, lease.hurry)
    hurry.start()
    assert waits_s(lease) < NORMAL.renew_s / 2
    hurry.join()


def test_the_next_renewal_is_due_once_the_registration_has_settled(store: PlannedStore) -> None:
    """What could not be claimed in the first second is listed again as soon as it may be."""
    lease = begun(store)
    CLOCK.now_s = JOINED_S + SETTLE_S - 0.1
    assert 0.1 <= waits_s(lease) < NORMAL.renew_s / 2
