"""The node's machine against a model of store, keeper and another node: facts doubled, late, lost, in any order.

The worker's own glue (`NodeAgent._consider` and `_do`) carries the facts in and the effects out; only what it talks to
is a model.
"""

from __future__ import annotations

import queue
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest
import structlog
from hypothesis import Phase as Step
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from shunter.agent import worker
from shunter.agent.gpus.simulated import SimulatedSource
from shunter.agent.keeper.client import Gone, KeeperClient
from shunter.agent.keeper.protocol import Ack, Ended, Live, Ready, Report, Request, Start, Stop
from shunter.agent.launcher import Launcher
from shunter.agent.node_lease import Leased, NodeLease
from shunter.agent.supervisor import Attempt, Effect, ReportExit, StartMember, Supervisor
from shunter.agent.worker import Hinted, NodeAgent
from shunter.domain import job as jobs
from shunter.domain.event import Cancelled, Event, Placed, Returned, StopAsked
from shunter.domain.ids import AllocationId, Incarnation, JobId, NodeName
from shunter.domain.job import Job, Launch
from shunter.domain.lease import Renewal
from shunter.domain.node import Node
from shunter.domain.outcome import Exit, FailureClass
from shunter.domain.phase import (
    HOLDS_GPUS,
    LIVE,
    Allocation,
    NodeShare,
    Queued,
    Reserved,
    Running,
    StopCause,
    Stopping,
)
from shunter.domain.phase import (
    Ended as JobEnded,
)
from shunter.domain.retry import on_claim, on_exit
from shunter.runtime.process import boot_time_s
from shunter.store.codec import Record, record
from shunter.store.command import Command
from shunter.store.commands import Answer, Move, move
from shunter.store.keys import Keys
from shunter.store.redis import Store

OURS, OTHER = NodeName("n1"), NodeName("n2")
JOB: Final = Job(JobId(7), "train", "ada", jobs.Request(1, 1), submitted_s=1.0, max_retries=1_000)
LAUNCH: Final = Launch(["true"], "/")
LOST: Final = Exit(5.0, failure=FailureClass.KEEPER_LOST)


def drop(*_: object) -> NoReturn:
    raise structlog.DropEvent


class World:
    """One job in the store, and the keeper with what it has. The checks that need both are here."""

    def __init__(self) -> None:
        self.record = record(Queued(0.0), 1)
        self.live: dict[str, Live] = {}
        self.over: dict[str, Ended] = {}
        self.reports: list[Report | Gone] = []
        self.keeper_runs = True
        self.started: Counter[str] = Counter()

    def wants(self, allocation: str) -> bool:
        """Whether *allocation* is the store's live attempt, and our member of it has not exited."""
        phase = self.record.phase
        if not isinstance(phase, Running | Stopping) or phase.allocation.id != allocation:
            return False
        return all(member.rank != rank_of(phase.allocation, OURS) for member in phase.exits)

    # the store

    def take(self, made: Move) -> Answer:
        """What the scripts do: a move is taken from the very revision that it names, and taken again is no harm."""
        if made.after.value == self.record.value:
            return "ok"
        if made.before.rev != self.record.rev:
            return self.record
        self.record = made.after
        return "ok"

    def happens(self, event: Event) -> None:
        assert self.take(move(JOB.id, self.record, event)) == "ok"

    # the keeper

    def ask(self, request: Request) -> None:
        match request:
            case _ if not self.keeper_runs:
                pass  # lost with it
            case Start(allocation=allocation):
                self.started[allocation] += 1
                assert self.started[allocation] == 1, f"{allocation} was started twice"
                assert self.wants(allocation), f"{allocation} was started, and the store has {self.record}"
                self.live[allocation] = Live(allocation, JOB.id, request.attempt, request.rank, pid=1)
                self.reports.append(self.live[allocation])
            case Stop(allocation=allocation, now=now):
                if now:
                    assert not self.wants(allocation), f"{allocation} was ended, and the store has {self.record}"
                if allocation in self.live:
                    self.end(allocation, Exit(3.0, signal=15))
            case Ack(allocation=allocation):
                assert allocation not in self.live, f"{allocation} was acknowledged, and it lives"
                self.over.pop(allocation, None)

    def end(self, allocation: str, exit: Exit) -> None:
        member = self.live.pop(allocation)
        self.over[allocation] = Ended(allocation, JOB.id, member.attempt, member.rank, exit)
        self.reports.append(self.over[allocation])

    def has(self) -> list[Report]:
        return [*self.live.values(), *self.over.values(), Ready(1, 1)]


class ModelKeeper(KeeperClient):
    def __init__(self, world: World) -> None:
        self._world = world
        self.reports = queue.SimpleQueue()
        self.reports.put(Gone())  # for the thread that reads reports: here the rules bring them

    def connect(self) -> list[Report]:
        self._world.keeper_runs = True
        return self._world.has()

    def send(self, *requests: Request) -> None:
        for request in requests:
            self._world.ask(request)


class ModelLauncher(Launcher):
    def request(self, attempt: Attempt) -> Start:
        allocation = str(attempt.allocation.id)
        return Start(allocation, JOB.id, attempt.number, attempt.rank, ["true"], {}, "/", "/", "/o", "/e", "m")


class ModelLease(NodeLease):
    """A lease that never ends: what it forbids is `domain.lease`'s own model."""

    until_s = None

    def may_claim(self) -> bool:
        return True


class ModelAgent(NodeAgent):
    """The worker, whose scripts run on the model."""

    def __init__(self, world: World, incarnation: int) -> None:
        launcher = ModelLauncher(cluster="c", storage=Path("/s"), source=SimulatedSource(1), data_set=lambda: "0")
        store, keys = Store("unix:///none"), Keys("c")
        super().__init__(store, keys, ModelKeeper(world), launcher, SimulatedSource(1), ModelLease(store, keys))
        self._world = world
        self.node = Node(OURS, Incarnation(str(incarnation)), (), 1, 1, 0.0)
        self.supervisor = Supervisor(OURS, self.node.incarnation)

    def _patiently(self, command: Command[Any], *, surely: bool = False) -> Any:  # noqa: ARG002
        assert command.parts[0] == "HMGET", "only jobs are read past `_claim` and `_report`"
        return [JOB]

    def _claim(self, moves: list[Move]) -> list[Effect]:
        effects: list[Effect] = []
        for made in moves:
            said = self._world.take(made)
            spec = (JOB, LAUNCH) if said == "ok" else None
            effects += self.supervisor.claimed(made, said, spec, now_s=0.0, boot_s=boot_time_s())
        return effects

    def _report(self, reports: list[ReportExit]) -> list[Effect]:
        effects: list[Effect] = []
        for one in reports:
            assert one.allocation not in self._world.live, f"{one.allocation} is reported as over, and it lives"
            effects += self.supervisor.reported(one.allocation, self._world.take(one.move), boot_time_s())
        return effects

    def consider(self, fact: Hinted | Leased | Report | Gone) -> list[Effect]:
        return self._consider(fact)

    def do(self, effects: list[Effect]) -> None:
        self._do(effects)

    def adopt(self, has: Iterable[Report]) -> None:
        for member in has:
            if isinstance(member, Live | Ended):
                self._do(self.supervisor.adopt(member, JOB, self._world.record, boot_time_s()))


class Orders(RuleBasedStateMachine):
    """Rules are what may happen. Facts are considered one by one, their effects done some time later, as a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.incarnation = 1
        self.agent = ModelAgent(self.world, 1)
        self.effects: list[Effect] = []
        self.hints: list[Record] = []
        self.leases: list[Leased] = []
        self.allocations = 0

    # what other roles do

    @precondition(lambda self: isinstance(self.world.record.phase, Queued | JobEnded))
    @rule(gang=st.booleans(), first=st.booleans())
    def the_leader_places(self, gang: bool, first: bool) -> None:
        if isinstance(self.world.record.phase, JobEnded):
            # So that a story goes on, the next job has the same id: for the node it is one more attempt.
            self.world.record = record(Queued(0.0), self.world.record.rev + 1)
        self.allocations += 1
        nodes = [OURS, OTHER] if gang else [OURS]
        shares = tuple(
            NodeShare(name, Incarnation(str(self.incarnation) if name == OURS else "n2-1"), (0,))
            for name in (nodes if first else nodes[::-1])
        )
        self.world.happens(Placed(0.0, "leader", Allocation(AllocationId(f"1.{self.allocations}"), shares)))

    @precondition(lambda self: isinstance(self.world.record.phase, Reserved))
    @rule()
    def the_leader_takes_a_stranded_reservation_back(self) -> None:
        phase = self.world.record.phase
        assert isinstance(phase, Reserved)
        share = next(share for share in phase.allocation.shares if share.node == OURS)
        if share.incarnation != self.agent.node.incarnation:
            self.world.happens(Returned(0.0, "leader", "restarted"))

    @precondition(lambda self: isinstance(self.world.record.phase, Reserved))
    @rule()
    def the_other_node_claims(self) -> None:
        phase = self.world.record.phase
        assert isinstance(phase, Reserved)
        rank = rank_of(phase.allocation, OTHER)
        if rank is not None and rank not in phase.claimed:
            self.world.happens(on_claim(phase, rank, at_s=0.0, by=OTHER))

    @precondition(lambda self: isinstance(self.world.record.phase, LIVE))
    @rule(code=st.sampled_from([0, 0, 1]))
    def the_others_member_ends(self, code: int) -> None:
        phase = self.world.record.phase
        assert isinstance(phase, Running | Stopping)
        rank = rank_of(phase.allocation, OTHER)
        if rank is not None and all(member.rank != rank for member in phase.exits):
            self.world.happens(on_exit(JOB, phase, rank, Exit(1.0, code=code), by=OTHER))

    @precondition(lambda self: isinstance(self.world.record.phase, Reserved | Running))
    @rule()
    def somebody_cancels(self) -> None:
        running = isinstance(self.world.record.phase, Running)
        self.world.happens(StopAsked(0.0, "ada", StopCause.CANCELLED) if running else Cancelled(0.0, "ada"))

    # facts on their way

    @precondition(lambda self: self.is_ours() and len(self.hints) < 4)
    @rule()
    def the_leader_sends_a_hint(self) -> None:
        self.hints.append(self.world.record)

    @precondition(lambda self: len(self.leases) < 3)
    @rule()
    def the_node_asks_for_its_lease(self) -> None:
        asked = boot_time_s()
        held = {JOB.id: self.world.record} if self.is_ours() else {}
        self.leases.append(Leased(held, Renewal(len(self.leases) + 1, asked, 0, fenced=True), None))

    def is_ours(self) -> bool:
        phase = self.world.record.phase
        return isinstance(phase, HOLDS_GPUS) and rank_of(phase.allocation, OURS) is not None

    @precondition(lambda self: self.hints)
    @rule(data=st.data(), doubled=st.booleans())
    def a_hint_arrives(self, data: st.DataObject, doubled: bool) -> None:
        number = data.draw(st.integers(0, len(self.hints) - 1))
        hint = self.hints[number] if doubled else self.hints.pop(number)
        self.effects += self.agent.consider(Hinted([(JOB.id, hint.value)]))

    @precondition(lambda self: self.hints)
    @rule()
    def a_hint_is_lost(self) -> None:
        self.hints.pop()

    @precondition(lambda self: self.leases)
    @rule()
    def a_lease_answer_arrives(self) -> None:
        self.effects += self.agent.consider(self.leases.pop(0))

    @precondition(lambda self: self.leases)
    @rule()
    def a_lease_answer_is_lost(self) -> None:
        self.leases.pop(0)

    @precondition(lambda self: self.world.reports)
    @rule(doubled=st.sampled_from([False, False, True]))
    def a_report_of_the_keeper_arrives(self, doubled: bool) -> None:
        report = self.world.reports[0]
        if isinstance(report, Gone) or not doubled:
            self.world.reports.pop(0)
        self.effects += self.agent.consider(report)

    @rule(gang=st.booleans())
    def all_goes_well_for_a_moment(self, gang: bool) -> None:
        if isinstance(self.world.record.phase, Queued | JobEnded):
            self.the_leader_places(gang=gang, first=gang)
        if isinstance(self.world.record.phase, Reserved):
            self.the_other_node_claims()
        if self.is_ours():
            self.effects += self.agent.consider(Hinted([(JOB.id, self.world.record.value)]))
        self.the_worker_acts()

    @precondition(lambda self: self.effects)
    @rule()
    def the_worker_acts(self) -> None:
        effects, self.effects = self.effects, []
        self.agent.do(effects)

    # what happens on the node

    @precondition(lambda self: self.world.live)
    @rule(code=st.sampled_from([0, 1]))
    def a_member_ends(self, code: int) -> None:
        self.world.end(next(iter(self.world.live)), Exit(2.0, code=code))

    @precondition(lambda self: self.world.keeper_runs and (self.world.live or self.effects))
    @rule()
    def the_keeper_is_killed(self) -> None:
        told = list(self.world.reports)
        for allocation in list(self.world.live):
            self.world.end(allocation, LOST)
        self.world.keeper_runs = False
        self.world.reports = [*told, Gone()]  # that its members ended with it, only the next one tells

    @precondition(lambda self: self.world.live or self.world.over or self.effects)
    @rule()
    def the_worker_is_killed(self) -> None:
        self.incarnation += 1
        self.effects, self.hints, self.leases, self.world.reports = [], [], [], []
        self.world.keeper_runs = True
        self.agent = ModelAgent(self.world, self.incarnation)
        self.agent.adopt(self.world.has())

    # what always holds

    @invariant()
    def at_most_one_attempt_runs_and_it_is_the_stores(self) -> None:
        assert len(self.world.live) <= 1
        for allocation in self.world.live:
            assert self.world.wants(allocation), f"{allocation} lives, and the store has {self.world.record}"

    def teardown(self) -> None:
        """Once nothing goes wrong any more, everything is told, acknowledged and forgotten."""
        for _ in range(4):
            if isinstance(self.world.record.phase, Reserved):
                self.the_leader_takes_a_stranded_reservation_back()
            if isinstance(self.world.record.phase, Reserved):
                self.the_other_node_claims()
            self.the_node_asks_for_its_lease()
            while self.leases:
                self.a_lease_answer_arrives()
            while self.world.reports or self.effects:
                if self.world.reports:
                    self.a_report_of_the_keeper_arrives(doubled=False)
                self.the_worker_acts()
            for allocation in list(self.world.live):
                self.world.end(allocation, Exit(2.0, code=0))
            if isinstance(self.world.record.phase, LIVE):
                self.the_others_member_ends(code=0)
        assert not self.world.live
        assert not self.world.over, "an end was never acknowledged"
        assert not self.agent.supervisor.attempts
        assert not self.is_ours(), "GPUs are held for ever"


def rank_of(allocation: Allocation, node: NodeName) -> int | None:
    return next((rank for rank, share in enumerate(allocation.shares) if share.node == node), None)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "log", structlog.wrap_logger(structlog.PrintLogger(), processors=[drop]))


def test_a_start_that_waits_while_the_keeper_dies_is_not_sent_to_the_next_one() -> None:
    story = Orders()
    story.the_leader_places(gang=True, first=True)
    story.effects += story.agent.consider(Hinted([(JOB.id, story.world.record.value)]))
    story.the_worker_acts()
    story.the_other_node_claims()
    story.effects += story.agent.consider(Hinted([(JOB.id, story.world.record.value)]))
    assert [type(effect) for effect in story.effects] == [StartMember]
    story.the_keeper_is_killed()
    story.a_report_of_the_keeper_arrives(doubled=False)
    story.the_worker_acts()
    assert not story.world.started
    story.teardown()


def test_whatever_the_order_nothing_starts_twice_and_every_end_is_acknowledged() -> None:
    steps = [step for step in Step if step is not Step.explain]
    run_state_machine_as_test(
        Orders, settings=settings(max_examples=300, stateful_step_count=50, deadline=None, phases=steps)
    )
