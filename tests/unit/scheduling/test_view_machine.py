"""The view under every kind of event, in any order: after each, it is what a view built from scratch would be."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from shunter.domain.event import Cancelled, Event, Exited, Placed, Requeued, Returned, Started, StopAsked
from shunter.domain.ids import AllocationId, Incarnation, NodeName
from shunter.domain.job import Job, Request
from shunter.domain.node import Node
from shunter.domain.outcome import FailureClass, Outcome, Result
from shunter.domain.phase import (
    HOLDS_GPUS,
    Allocation,
    NodeShare,
    Phase,
    Queued,
    Reserved,
    Running,
    StopCause,
    Stopping,
)
from shunter.domain.transition import apply
from shunter.scheduling.decide import decide
from shunter.scheduling.policy import Policy
from shunter.scheduling.view import View
from tests.strategies import BRIEF, NODE_NAMES, NOW_S
from tests.unit.scheduling.picture import assert_as_if_built_at_once
from tests.unit.scheduling.policies import shipped_policies, some_policies
from tests.unit.scheduling.worlds import POOLS, Rest, allocated, asks, fleet_nodes, owned_jobs, shares_on

BY = "test"
PLAIN_SHAPES = (Request(1), Request(8), Request(4, 2), Request(1, gpu_milli=500))
LOST = Outcome(Result.LOST, failure=FailureClass.NODE_LOST)


class Cluster(RuleBasedStateMachine):
    """A cluster whose jobs live by the table of transitions, and whose nodes come, go and change."""

    def __init__(self) -> None:
        super().__init__()
        self.view = View(Policy())
        self.shapes: list[Request] = []
        self.now_s = NOW_S
        self.last = 0
        self.attempts = 0

    @initialize(
        policy=st.one_of(*shipped_policies().values(), some_policies(), some_policies()),
        shapes=st.lists(asks | st.sampled_from(PLAIN_SHAPES), min_size=2, max_size=4),
        plain=st.booleans(),
        data=st.data(),
    )
    def begin(self, policy: Policy, shapes: list[Request], plain: bool, data: st.DataObject) -> None:
        self.view = View(policy)
        self.shapes = shapes
        for name in NODE_NAMES[:4]:
            self.view.put_node(data.draw(fleet_nodes(name, plain=plain, all_healthy=plain)))
        self.submit(data, 8)
        self.decide_and_commit(0)

    # what there is to draw from

    def _some(self, data: st.DataObject, *kinds: type[Phase]) -> Job | None:
        found = [job_id for job_id, phase in sorted(self.view.phases.items()) if isinstance(phase, kinds)]
        return self.view.jobs[data.draw(st.sampled_from(found))] if found else None

    def _node(self, data: st.DataObject) -> Node | None:
        return self.view.nodes[data.draw(st.sampled_from(sorted(self.view.nodes)))] if self.view.nodes else None

    def _happens(self, job: Job, event: Event) -> None:
        self.view.put_job(job, apply(self.view.phases[job.id], event))

    # jobs

    @rule(data=st.data(), count=st.integers(1, 4))
    def submit(self, data: st.DataObject, count: int) -> None:
        for _ in range(count):
            self.last += 1
            job = data.draw(owned_jobs(self.last, st.sampled_from(self.shapes)))
            self.view.put_job(job, Queued(self.now_s))

    @rule(wait_s=st.sampled_from([0, 0, 1]))
    def decide_and_commit(self, wait_s: int) -> None:
        self._let_pass(wait_s)
        for placement in decide(self.view, self.view.policy, self.now_s).placements:
            self._place(self.view.jobs[placement.job_id], placement.shares)
            if placement.job_id % 2:
                self._happens(self.view.jobs[placement.job_id], Started(self.now_s, BY, 0))

    def _place(self, job: Job, shares: tuple[NodeShare, ...]) -> None:
        self.attempts += 1
        self._happens(job, Placed(self.now_s, BY, Allocation(AllocationId(f"1.{self.attempts}"), shares)))

    @rule(data=st.data())
    def place_somewhere(self, data: st.DataObject) -> None:
        """Where another leader put it: on a cordoned node perhaps, or against its wishes."""
        job = self._some(data, Queued)
        if job is None:
            return
        names = data.draw(st.permutations(sorted(self.view.nodes)))
        rests = [Rest(self.view.nodes[name], shares_on(self.view.phases.values(), name)) for name in names]
        allocation = allocated(job.request, rests, "")
        if allocation is not None:
            self._place(job, allocation.shares)

    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        if job := self._some(data, Reserved):
            self._happens(job, Started(self.now_s, BY, 0))

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        if job := self._some(data, Running, Stopping):
            self._happens(job, Exited(self.now_s, BY, Outcome(Result.SUCCEEDED, 0)))

    @rule(data=st.data())
    def ask_to_stop(self, data: st.DataObject) -> None:
        if job := self._some(data, Running, Stopping):
            self._happens(job, StopAsked(self.now_s, BY, StopCause.MEMBER_FAILED))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if job := self._some(data, Queued, Reserved):
            self._happens(job, Cancelled(self.now_s, BY))

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        if job := self._some(data, Reserved):
            self._happens(job, Returned(self.now_s, BY, "node left"))

    @rule(data=st.data(), pause_s=st.sampled_from([0.0, 0.5, 30.0]))
    def requeue(self, data: st.DataObject, pause_s: float) -> None:
        if job := self._some(data, Running, Stopping):
            self._happens(job, Requeued(self.now_s, BY, LOST, self.now_s + pause_s if pause_s else 0.0))

    @rule(data=st.data())
    def report_again(self, data: st.DataObject) -> None:
        if job := self._some(data, Queued, Reserved, Running, Stopping):
            self.view.put_job(job, self.view.phases[job.id])
            self._let_pass(0)

    @rule(seconds=st.sampled_from([0.25, 1, 45, 700, 100_000]))
    def time_passes(self, seconds: float) -> None:
        self._let_pass(seconds)

    def _let_pass(self, seconds: float) -> None:
        self.now_s += seconds
        self.view.advance(self.now_s)

    # nodes

    @rule(data=st.data(), name=st.sampled_from(NODE_NAMES))
    def node_joins_or_starts_again(self, data: st.DataObject, name: NodeName) -> None:
        self.view.put_node(data.draw(fleet_nodes(name)))

    @rule(data=st.data())
    def node_leaves(self, data: st.DataObject) -> None:
        if node := self._node(data):
            self.view.remove_node(node.name)

    @rule(data=st.data(), cordoned=st.sampled_from(["", "new disk"]))
    def node_is_cordoned_or_not(self, data: st.DataObject, cordoned: str) -> None:
        if node := self._node(data):
            self.view.put_node(replace(node, cordoned=cordoned))

    @rule(data=st.data(), at=st.integers(0, 7))
    def a_gpu_falls_ill_or_recovers(self, data: st.DataObject, at: int) -> None:
        if node := self._node(data):
            gpus = tuple(replace(gpu, healthy=gpu.healthy ^ (gpu.index == at)) for gpu in node.gpus)
            self.view.put_node(replace(node, gpus=gpus))

    @rule(data=st.data(), pool=st.sampled_from(["", *POOLS]))
    def node_moves_to_another_pool(self, data: st.DataObject, pool: str) -> None:
        if node := self._node(data):
            incarnation = Incarnation(f"{node.name}-{len(pool)}")
            self.view.put_node(replace(node, pool=pool, incarnation=incarnation))

    @rule(names=st.sets(st.sampled_from(NODE_NAMES), max_size=2))
    def nodes_fall_silent(self, names: set[NodeName]) -> None:
        self.view.set_silent(names)

    # what always holds

    @invariant()
    def equals_one_built_at_once(self) -> None:
        assert_as_if_built_at_once(self.view, self.now_s)

    @precondition(lambda self: self.view.phases)
    @invariant()
    def knows_who_holds_what(self) -> None:
        held = {job_id for _, job_id, _ in self.view.holders()}
        expected = {
            job_id
            for job_id, phase in self.view.phases.items()
            if isinstance(phase, HOLDS_GPUS) and phase.allocation.shares
        }
        assert held == expected


Cluster.TestCase.settings = settings(BRIEF, max_examples=60, stateful_step_count=40)
TestView = Cluster.TestCase
