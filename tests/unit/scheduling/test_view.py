"""The view, change by change; `test_view_machine.py` has changes of every kind in any order."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from shunter.domain.ids import JobId, NodeName
from shunter.domain.phase import Queued, Running
from shunter.scheduling.decide import decide
from shunter.scheduling.policy import Account, Policy
from shunter.scheduling.view import View
from tests.strategies import BRIEF, NOW_S
from tests.unit.scheduling.cluster import DONE, PLAIN, nodes_of, reserved, runs, view_of, waits
from tests.unit.scheduling.cluster import NOW_S as LINE_NOW_S
from tests.unit.scheduling.picture import assert_as_if_built_at_once, picture
from tests.unit.scheduling.policies import some_policies
from tests.unit.scheduling.worlds import World, worlds

N1 = NodeName("n1")


def idle(view: View) -> set[int]:
    return view.free[N1].idle


@given(worlds(), some_policies(), st.data())
@BRIEF
def test_the_order_in_which_jobs_are_put_into_a_view_does_not_matter(
    world: World, policy: Policy, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(world.jobs))))
    assert picture(world.view(policy)) == picture(world.view(policy, order))


@given(worlds(), some_policies())
@BRIEF
def test_putting_a_job_again_changes_nothing(world: World, policy: Policy) -> None:
    view = world.view(policy)
    before = picture(view)
    for job, phase in world.jobs:
        view.put_job(job, phase)
    view.advance(NOW_S)
    assert picture(view) == before
    assert_as_if_built_at_once(view, NOW_S)


@given(worlds(), some_policies())
@BRIEF
def test_when_all_jobs_have_ended_every_healthy_gpu_is_free_and_no_job_is_left(world: World, policy: Policy) -> None:
    view = world.view(policy)
    for job, _ in world.jobs:
        view.put_job(job, DONE)
    assert picture(view) == picture(World(world.nodes, world.silent, ()).view(policy))
    for node in world.nodes:
        assert view.free[node.name].idle == {gpu.index for gpu in node.gpus if gpu.healthy}


@given(worlds(), some_policies())
@BRIEF
def test_invariant_1_every_waiting_job_stands_in_one_lane_or_is_delayed(world: World, policy: Policy) -> None:
    view = world.view(policy)
    ready = [one.job.id for one in view.lanes.pending()]
    delayed = [job_id for _, job_id in view.delayed]
    waiting = [job.id for job, phase in world.jobs if isinstance(phase, Queued)]
    assert sorted(ready + delayed) == waiting
    assert view.pending == len(waiting)


@given(worlds(), some_policies(), some_policies())
@BRIEF
def test_a_view_made_for_another_policy_is_as_if_it_had_been_so_from_the_start(
    world: World, policy: Policy, other: Policy
) -> None:
    made = world.view(policy).made_for(other, NOW_S)
    made.advance(NOW_S)
    assert picture(made) == picture(world.view(other))
    assert decide(made, other, NOW_S) == decide(world.view(other), other, NOW_S)


def test_a_view_made_for_another_policy_knows_what_was_used() -> None:
    view = view_of("n1:4", runs(9, "n1:0", owner="red/bob", ran=50))
    view.ledger.charge(("red", "ada"), 2, LINE_NOW_S - 100, LINE_NOW_S)
    made = view.made_for(Policy(teams={"red": Account(1.0, "lab"), "lab": Account()}), LINE_NOW_S)
    assert made.ledger.used(("team", "lab"), LINE_NOW_S) == pytest.approx(250, rel=1e-3)


# scenarios


def test_a_view_decides_only_for_its_own_policy() -> None:
    view = view_of("n1:4", waits(1))
    assert decide(view, replace(PLAIN), LINE_NOW_S).placements
    with pytest.raises(ValueError, match="made_for"):
        decide(view, Policy(seed=1), LINE_NOW_S)


def test_an_ended_job_is_forgotten_and_its_gpus_are_free() -> None:
    view = view_of("n1:4", runs(1, "n1:0,1", cpus=4, memory_mib=100))
    view.put_job(runs(1, "n1:0,1")[0], DONE)
    assert (view.jobs, view.phases, view.held[N1]) == ({}, {}, {})
    assert (idle(view), view.free[N1].cpus) == ({0, 1, 2, 3}, 64)


def test_the_end_of_an_unknown_job_is_no_trouble() -> None:
    view = view_of("n1:4")
    view.put_job(waits(7)[0], DONE)
    assert view.pending == 0


def test_a_node_that_joins_after_its_jobs_were_seen_knows_what_they_hold() -> None:
    view = View(PLAIN)
    view.put_job(*runs(1, "n1:0,1", cpus=4))
    view.put_node(nodes_of("n1:4")[0])
    assert (idle(view), view.free[N1].cpus) == ({2, 3}, 60)


def test_a_node_that_left_and_came_back_knows_what_its_jobs_hold() -> None:
    view = view_of("n1:4", runs(1, "n1:0,1"))
    node = view.nodes[N1]
    view.remove_node(N1)
    assert list(view.schedulable()) == []
    view.put_node(node)
    assert idle(view) == {2, 3}


def test_a_job_may_end_after_its_node_left() -> None:
    view = view_of("n1:4", runs(1, "n1:0,1"))
    view.remove_node(N1)
    view.put_job(runs(1, "n1:0,1")[0], DONE)
    assert list(view.holders()) == []


def test_a_node_that_is_not_there_can_leave_and_fall_silent() -> None:
    view = view_of("n1:4")
    view.remove_node(NodeName("n9"))
    view.set_silent([NodeName("n9")])
    view.put_node(nodes_of("n9:1")[0])
    assert [node.name for node in view.schedulable()] == ["n1"]


def test_a_gpu_that_falls_ill_is_no_longer_free_and_one_that_recovers_is() -> None:
    view = view_of("n1:2")
    well = view.nodes[N1]
    view.put_node(replace(well, gpus=(replace(well.gpus[0], healthy=False), well.gpus[1])))
    assert idle(view) == {1}
    view.put_node(well)
    assert idle(view) == {0, 1}


def test_a_gpu_that_falls_ill_under_shares_comes_back_whole_once_they_ended() -> None:
    view = view_of("n1:1", runs(1, "n1:0", 0.25), runs(2, "n1:0", 0.5))
    well = view.nodes[N1]
    view.put_node(replace(well, gpus=(replace(well.gpus[0], healthy=False),)))
    view.put_job(runs(1, "n1:0", 0.25)[0], DONE)
    assert (idle(view), view.free[N1].parts) == (set(), {})
    view.put_node(well)
    assert (idle(view), view.free[N1].parts) == (set(), {0: 500})
    view.put_job(runs(2, "n1:0", 0.5)[0], DONE)
    assert (idle(view), view.free[N1].parts) == ({0}, {})


def test_a_delayed_job_joins_the_queue_when_its_time_has_come_and_not_before() -> None:
    view = view_of("n1:1")
    view.put_job(*waits(1, failed_on="n1", not_before_s=50.0))
    view.advance(49.9)
    assert (len(view.lanes), view.pending) == (0, 1)
    view.advance(50.0)
    assert (len(view.lanes), len(view.delayed), view.pending) == (1, 0, 1)


def test_a_node_that_failed_a_job_is_forgiven_a_minute_after_the_retry_was_due() -> None:
    view = view_of("n1:1")
    view.put_job(*waits(1, failed_on="n1", not_before_s=LINE_NOW_S + 50))
    assert view.due_s == LINE_NOW_S + 50
    view.advance(LINE_NOW_S + 50)
    assert [asked.avoid for asked in view.lanes.asks] == [frozenset({"n1"})]
    assert view.due_s == LINE_NOW_S + 110
    view.advance(LINE_NOW_S + 109.9)
    assert [asked.avoid for asked in view.lanes.asks] == [frozenset({"n1"})]
    view.advance(LINE_NOW_S + 110)
    assert [(asked.avoid, asked.count) for asked in view.lanes.asks.values()] == [(frozenset(), 1)]
    assert (view.due_s, view.pending) == (math.inf, 1)


def test_a_job_that_is_placed_while_it_avoids_nodes_leaves_nothing_behind() -> None:
    view = view_of("n1:1 n2:1", waits(1, failed_on="n1"))
    assert view.avoiding
    view.put_job(*runs(1, "n2:0"))
    assert (list(view.avoiding), view.due_s) == ([], math.inf)


def test_a_delayed_job_that_is_cancelled_leaves_nothing_behind() -> None:
    view = view_of("n1:1")
    job, phase = waits(1, failed_on="n1", not_before_s=50.0)
    view.put_job(job, phase)
    view.put_job(job, DONE)
    view.advance(99.0)
    assert (view.pending, view.mix.weights) == (0, ())


def test_the_last_job_of_an_ask_takes_the_ask_with_it() -> None:
    view = view_of("n1:1", waits(1), waits(2))
    assert len(view.lanes.asks) == 1
    for job_id in (1, 2):
        view.put_job(waits(job_id)[0], DONE)
    assert (view.lanes.asks, view.lanes.queues) == ({}, {})


def test_a_job_is_not_pending_while_it_runs_and_is_again_when_requeued() -> None:
    view = view_of("n1:1", waits(1))
    job, queued = waits(1)
    _, running = runs(1, "n1:0")
    assert isinstance(running, Running)
    view.put_job(job, running)
    assert (view.pending, idle(view), JobId(1) in view.lanes) == (0, set(), False)
    view.put_job(job, queued)
    assert (view.pending, idle(view), JobId(1) in view.lanes) == (1, {0}, True)


def test_only_the_nodes_of_the_newest_past_attempt_are_avoided() -> None:
    job, phase = waits(1, failed_on="n1")
    assert isinstance(phase, Queued)
    view = View(PLAIN)
    view.put_job(job, replace(phase, past=(*phase.past, replace(phase.past[0], nodes=(NodeName("n2"),)))))
    assert [asked.avoid for asked in view.lanes.asks] == [frozenset({"n2"})]


def test_jobs_of_one_class_and_shape_share_an_ask_whoever_owns_them() -> None:
    jobs = waits(1), waits(2, owner="bob"), waits(3, 2), waits(4, priority="high"), waits(5, failed_on="n1")
    view = view_of("n1:1", *jobs, policy=Policy())
    assert sorted(ask.count for ask in view.lanes.asks.values()) == [1, 1, 1, 2]


@pytest.mark.parametrize(("order", "queues"), [(("age",), 1), (("fair-share",), 3)])
def test_owners_are_told_apart_only_where_the_order_asks_who_they_are(order: tuple[str, ...], queues: int) -> None:
    jobs = waits(1), waits(2, owner="bob"), waits(3, owner="red/bob"), waits(4, owner="red/bob")
    assert len(view_of("n1:1", *jobs, policy=Policy(order=order)).lanes.queues) == queues


def test_nodes_stand_on_shelves_by_what_they_are_and_by_what_is_free() -> None:
    view = view_of("n1-3:4 n4:4@gold", runs(9, "n2:0"))
    (plain, gold) = sorted(view.shelves, key=lambda kind: kind.pool)
    assert [sorted(len(refs) for refs in level.values()) for level in view.shelves[plain].levels] == [
        [], [], [], [], [1], [2],
    ]  # fmt: skip
    assert view.shelves[gold].nodes == 1
    view.remove_node(NodeName("n4"))
    assert list(view.shelves) == [plain]


def test_use_is_charged_for_what_ran_and_not_for_what_only_waited_for_its_nodes() -> None:
    view = view_of("n1:4", runs(1, "n1:0,1", ran=100, owner="red/bob"))
    assert view.ledger.used(("team", "red"), LINE_NOW_S) == pytest.approx(200, rel=1e-3)
    job, phase = runs(1, "n1:0,1", ran=100, owner="red/bob")
    view.put_job(job, replace(DONE, ended_s=LINE_NOW_S, started_s=LINE_NOW_S - 100))
    for _ in range(2):
        assert view.ledger.used(("team", "red"), LINE_NOW_S) == pytest.approx(200, rel=1e-3)
        view.put_job(job, phase)
        view.put_job(job, DONE)  # it never started


def test_when_a_node_has_room_is_worked_out_anew_once_something_changed_there() -> None:
    view = view_of("n1:4", runs(8, "n1:0", ran=0, limit=100), waits(1, 4), waits(2, limit=50))
    assert reserved(decide(view, PLAIN, LINE_NOW_S)) == {1: (100.0, "n1")}
    view.put_job(runs(8, "n1:0")[0], DONE)
    view.put_job(*runs(9, "n1:1", ran=0, limit=300))
    assert reserved(decide(view, PLAIN, LINE_NOW_S)) == {1: (300.0, "n1")}


def test_when_a_node_has_room_is_worked_out_anew_once_an_estimate_has_passed() -> None:
    view = view_of("n1:4", runs(8, "n1:0", ran=0, limit=100), waits(1, 4), waits(2, limit=50))
    decide(view, PLAIN, LINE_NOW_S)
    assert reserved(decide(view, PLAIN, LINE_NOW_S + 100)) == {1: (200.0, "n1")}


def test_what_was_thought_of_a_gang_is_forgotten_when_a_node_of_it_leaves() -> None:
    gang = runs(9, "n1:0,1 n2:0,1,2", ran=0)  # of n2 it takes a part, so it is thought to run for ever
    view = view_of("n1:2 n2:4 n3:1", gang, waits(1, 2), waits(2, 1, limit=1_000))
    for nodes in ("n1", "n1"):
        (promised,) = reserved(decide(view, PLAIN, LINE_NOW_S)).values()
        assert promised[1] == nodes
        assert reserved(decide(view, PLAIN, LINE_NOW_S)) == reserved(
            decide(view.made_for(PLAIN, LINE_NOW_S), PLAIN, LINE_NOW_S)
        )
        view.remove_node(NodeName("n2"))
