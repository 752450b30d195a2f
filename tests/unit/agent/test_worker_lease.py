"""The worker and its lease: an answer counts as carried out once the keeper says so, and nothing is claimed before."""

from __future__ import annotations

import queue
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from shunter.agent.keeper.protocol import Lease, Request, Stop
from shunter.agent.keeper.protocol import Leased as Enforced
from shunter.agent.node_lease import Leased, NodeLease
from shunter.agent.supervisor import Effect, StopMember, Supervisor
from shunter.agent.worker import NodeAgent
from shunter.domain.ids import Incarnation, JobId, NodeName
from shunter.domain.lease import NORMAL, SETTLE_S, Granted
from shunter.domain.phase import Reserved
from shunter.store.codec import Record, record
from shunter.store.command import Command
from shunter.store.keys import Keys
from shunter.store.leases import Renewed
from tests.unit.domain.samples import gang

JOINED_S: Final = 100.0
MINE: Final[dict[JobId, Record]] = {JobId(7): record(Reserved(1, gang("n1"), 10.0), 2)}


class Asked(Exception):
    """The store was asked for something that is no renewal."""


class Granting:
    """A store for renewals: each is granted."""

    def run(self, _: Command[Any]) -> Renewed:
        return Renewed(Granted(), MINE)


class Refusing:
    def run(self, _: Command[Any]) -> None:
        raise Asked

    run_surely = run


class Keeper:
    def __init__(self) -> None:
        self.sent: list[Request] = []
        self.reports: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def send(self, *requests: Request) -> None:
        self.sent += requests


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now_s=JOINED_S)
    for module in ("node_lease", "worker"):
        monkeypatch.setattr(f"shunter.agent.{module}.boot_time_s", lambda: clock.now_s)
    return clock


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


@pytest.fixture
def lease(clock: SimpleNamespace) -> NodeLease:
    lease = NodeLease(cast("Any", Granting()), Keys("main"))
    lease.begin(NodeName("n1"), Incarnation("n1-1"))
    return lease


@pytest.fixture
def agent(lease: NodeLease, keeper: Keeper) -> NodeAgent:
    nothing = cast("Any", None)
    agent = NodeAgent(cast("Any", Refusing()), Keys("main"), cast("Any", keeper), nothing, nothing, lease)
    agent.supervisor = Supervisor(NodeName("n1"), Incarnation("n1-1"))
    agent.node = cast("Any", SimpleNamespace(name="n1", incarnation="n1-1"))
    return agent


def answered(lease: NodeLease) -> Leased:
    leased = lease.renew()
    assert leased is not None
    return leased


def test_an_answer_is_carried_out_once_the_keeper_enforces_it(
    agent: NodeAgent, lease: NodeLease, keeper: Keeper, clock: SimpleNamespace
) -> None:
    clock.now_s += SETTLE_S
    agent._consider(answered(lease))
    assert keeper.sent == [Lease(clock.now_s + NORMAL.fence_after_s, 1)]
    assert not lease.may_claim()
    assert answered(lease).asked.done == 0
    agent._consider(Enforced(1))
    assert lease.may_claim()
    assert answered(lease).asked.done == 1


def test_what_is_not_listed_is_told_to_end_before_the_rest_goes_on(
    agent: NodeAgent, lease: NodeLease, keeper: Keeper
) -> None:
    effects: list[Effect] = [StopMember("1.9", now=True), StopMember("1.8", now=False)]
    assert agent._obey(effects, 1, 120.0) == effects[1:]
    assert keeper.sent == [Stop("1.9", True), Lease(120.0, 1)]


def test_nothing_is_claimed_before_the_lease_allows_it_and_each_answer_says_it_again(
    agent: NodeAgent, lease: NodeLease, clock: SimpleNamespace
) -> None:
    agent._do(agent._consider(answered(lease)))
    agent._consider(Enforced(1))
    agent._do(agent._consider(answered(lease)))  # the registration may be forgotten yet
    clock.now_s += SETTLE_S
    effects = agent._consider(answered(lease))
    with pytest.raises(Asked):
        agent._do(effects)
    clock.now_s += NORMAL.fence_after_s
    agent._do(effects)  # too late by now


def test_nothing_is_claimed_while_a_stale_attempt_has_not_ended(
    agent: NodeAgent, lease: NodeLease, clock: SimpleNamespace
) -> None:
    clock.now_s += SETTLE_S
    effects = agent._consider(answered(lease))
    agent._consider(Enforced(1))
    agent._obey([StopMember("1.9", now=True)], 2, None)
    agent._do(effects)
    agent._ended("1.9")
    with pytest.raises(Asked):
        agent._do(effects)
