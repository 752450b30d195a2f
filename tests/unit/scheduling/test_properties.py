"""What holds for every view: safety of the plan, fairness of the order, and that nothing idles that could work.

The oracles count from the nodes' inventories and the jobs' phases, not from what the view keeps for speed.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shunter.domain.event import Placed
from shunter.domain.ids import AllocationId, JobId, NodeName
from shunter.domain.job import PRIORITY_RANK, Request
from shunter.domain.node import Node
from shunter.domain.phase import HOLDS_GPUS, Allocation, NodeShare, Queued
from shunter.domain.reason import HeldBack, NeverFits, NoNodes, NotEnoughFree, render
from shunter.domain.transition import apply
from shunter.scheduling.decide import decide
from shunter.scheduling.fit import could_hold
from shunter.scheduling.order import Turns
from shunter.scheduling.plan import Placement, Plan
from shunter.scheduling.policy import Policy
from shunter.scheduling.verify import verify
from shunter.scheduling.view import Pending, View
from tests.strategies import BRIEF, NOW_S, World, allocations, worlds
from tests.unit.scheduling.test_view import picture

policies = st.sampled_from([Policy(overtake_s=0.0), Policy(overtake_s=5_000.0), Policy(overtake_s=1e9)])
PATIENT = Policy(overtake_s=1e9)


def commit(view: View, placements: tuple[Placement, ...]) -> None:
    for number, placement in enumerate(placements):
        allocation = Allocation(AllocationId(f"2.{number}"), placement.shares)
        phase = apply(view.phases[placement.job_id], Placed(NOW_S, "coordinator-1", allocation))
        view.put_job(view.jobs[placement.job_id], phase)


def shares_on(view: View, name: NodeName) -> list[NodeShare]:
    holding = [phase for phase in view.phases.values() if isinstance(phase, HOLDS_GPUS)]
    return [share for phase in holding for share in phase.allocation.shares if share.node == name]


def overbooked(view: View) -> list[str]:
    """Return, with the counts, every node that gives more than it has."""
    found = []
    for node in view.nodes.values():
        shares = shares_on(view, node.name)
        gpus = [gpu for share in shares for gpu in share.gpus]
        cpus, memory_mib = sum(s.cpus for s in shares), sum(s.memory_mib for s in shares)
        if len(gpus) != len(set(gpus)) or not {gpu.index for gpu in node.gpus}.issuperset(gpus):
            found.append(f"{node.name}: GPUs {sorted(gpus)} held of {[gpu.index for gpu in node.gpus]}")
        if cpus > node.cpus or memory_mib > node.memory_mib:
            found.append(f"{node.name}: {cpus} of {node.cpus} cores, {memory_mib} of {node.memory_mib} MiB held")
    return found


def room_on(view: View, node: Node, request: Request) -> bool:
    """Return whether *node* holds one more member of *request* now."""
    shares = shares_on(view, node.name)
    held = {gpu for share in shares for gpu in share.gpus}
    return (
        len([gpu for gpu in node.gpus if gpu.healthy and gpu.index not in held]) >= request.gpus_per_node
        and node.cpus - sum(share.cpus for share in shares) >= request.cpus
        and node.memory_mib - sum(share.memory_mib for share in shares) >= request.memory_mib
    )


def usable_nodes(view: View, pending: Pending) -> list[Node]:
    """Return the nodes that may take the job: schedulable, and not the ones that failed it unless it needs them."""
    request = pending.job.request
    nodes = [node for node in view.nodes.values() if not node.cordoned and node.name not in view.silent]
    avoid = set(pending.phase.past[-1].nodes) if pending.phase.past else set()
    others = [node for node in nodes if node.name not in avoid]
    empty = View()
    return others if sum(room_on(empty, node, request) for node in others) >= request.nodes else nodes


def waiting(view: View) -> list[Pending]:
    """Return the jobs that may be placed now, in claim order."""
    ready = [
        Pending(view.jobs[job_id], phase)
        for job_id, phase in view.phases.items()
        if isinstance(phase, Queued) and phase.not_before_s <= NOW_S
    ]
    return sorted(ready, key=lambda pending: (PRIORITY_RANK[pending.job.priority], pending.job.id))


# safety


@given(worlds(), policies)
@BRIEF
def test_verify_agrees_with_every_plan_of_decide(world: World, policy: Policy) -> None:
    view = world.view()
    assert verify(decide(view, policy, NOW_S), view) == ()


@given(worlds(), policies)
@BRIEF
def test_invariant_2_no_gpu_is_held_twice_and_no_node_is_over_capacity_after_a_plan(
    world: World, policy: Policy
) -> None:
    view = world.view()
    assert overbooked(view) == [], "the world itself is wrong"
    commit(view, decide(view, policy, NOW_S).placements)
    assert overbooked(view) == []


@given(worlds(), policies)
@BRIEF
def test_only_healthy_free_gpus_of_schedulable_nodes_are_given(world: World, policy: Policy) -> None:
    view = world.view()
    for placement in decide(view, policy, NOW_S).placements:
        for share in placement.shares:
            node = view.nodes[share.node]
            assert not node.cordoned
            assert node.name not in view.silent
            assert node.incarnation == share.incarnation
            assert {gpu.index for gpu in node.gpus if gpu.healthy}.issuperset(share.gpus)
            assert list(share.gpus) == sorted(set(share.gpus))


@given(worlds(), policies)
@BRIEF
def test_invariant_6_a_gang_is_placed_whole_on_different_nodes_or_not_at_all(world: World, policy: Policy) -> None:
    view = world.view()
    for placement in decide(view, policy, NOW_S).placements:
        request = view.jobs[placement.job_id].request
        assert len({share.node for share in placement.shares}) == len(placement.shares) == request.nodes
        for share in placement.shares:
            assert len(share.gpus) == request.gpus_per_node
            assert (share.cpus, share.memory_mib) == (request.cpus, request.memory_mib)


@given(worlds(), policies)
@BRIEF
def test_invariant_8_a_job_goes_where_it_just_failed_only_when_it_needs_to(world: World, policy: Policy) -> None:
    view = world.view()
    ready = {pending.job.id: pending for pending in waiting(view)}
    for placement in decide(view, policy, NOW_S).placements:
        allowed = {node.name for node in usable_nodes(view, ready[placement.job_id])}
        assert allowed.issuperset(share.node for share in placement.shares)


@given(worlds(), st.data())
@BRIEF
def test_invariant_2_what_verify_lets_pass_of_any_plan_never_overbooks(world: World, data: st.DataObject) -> None:
    view = world.view()
    placements = [Placement(job.id, data.draw(allocations(job.request)).shares) for job, _ in world.jobs]
    accepted = accepted_by_verify(tuple(placements), view)
    assert accepted_by_verify(accepted, view) == accepted
    commit(view, accepted)
    assert overbooked(view) == []


@given(worlds(), policies)
@BRIEF
def test_a_plan_from_a_stale_view_loses_exactly_the_placements_that_no_longer_fit(world: World, policy: Policy) -> None:
    before_others_came = tuple(entry for entry in world.jobs if isinstance(entry[1], Queued))
    plan = decide(World(world.nodes, world.silent, before_others_came).view(), policy, NOW_S)
    view, fitting = world.view(), []
    for placement in plan.placements:
        queued = view.phases[placement.job_id]
        commit(view, (placement,))
        if overbooked(view):
            view.put_job(view.jobs[placement.job_id], queued)
        else:
            fitting.append(placement)
    assert accepted_by_verify(plan.placements, world.view()) == tuple(fitting)


def accepted_by_verify(placements: tuple[Placement, ...], view: View) -> tuple[Placement, ...]:
    refused = {violation.job_id for violation in verify(Plan(placements, ()), view)}
    return tuple(placement for placement in placements if placement.job_id not in refused)


# purity


@given(worlds(), policies, st.data())
@BRIEF
def test_the_same_jobs_give_the_same_plan_in_whatever_order_they_came_into_the_view(
    world: World, policy: Policy, data: st.DataObject
) -> None:
    plan = decide(world.view(), policy, NOW_S)
    order = data.draw(st.permutations(range(len(world.jobs))))
    nodes = tuple(data.draw(st.permutations(world.nodes)))
    assert decide(World(nodes, world.silent, world.jobs).view(order), policy, NOW_S) == plan


@given(worlds(), policies)
@BRIEF
def test_decide_does_not_change_the_view_and_answers_the_same_again(world: World, policy: Policy) -> None:
    view = world.view()
    before = picture(view)
    plan = decide(view, policy, NOW_S)
    verify(plan, view)
    assert picture(view) == before
    assert decide(view, policy, NOW_S) == plan


@given(worlds())
@BRIEF
def test_a_second_pass_right_after_the_first_places_nothing_more(world: World) -> None:
    view = world.view()
    commit(view, decide(view, PATIENT, NOW_S).placements)
    assert decide(view, PATIENT, NOW_S).placements == ()


# nothing idles that could work, and nobody jumps the queue


@given(worlds())
@BRIEF
def test_what_fits_is_placed_when_nobody_is_held_back(world: World) -> None:
    view = world.view()
    plan = decide(view, PATIENT, NOW_S)
    commit(view, plan.placements)
    held_back = {(one.rank, one.request) for one in plan.refusals if isinstance(one.reason, HeldBack)}
    for pending in waiting(view):
        request = pending.job.request
        if (PRIORITY_RANK[pending.job.priority], request) in held_back:
            continue
        rooms = sum(room_on(view, node, request) for node in usable_nodes(view, pending))
        assert rooms < request.nodes, f"job {pending.job.id} needs {request.nodes} nodes, {rooms} have room"


@given(worlds(), policies)
@BRIEF
def test_no_job_starts_before_an_equal_one_with_a_higher_claim(world: World, policy: Policy) -> None:
    view = world.view()
    placed = {placement.job_id for placement in decide(view, policy, NOW_S).placements}
    passed_over: list[Pending] = []
    for pending in waiting(view):
        if pending.job.id not in placed:
            passed_over.append(pending)
            continue
        for earlier in passed_over:
            same = earlier.job.request == pending.job.request
            same_past = [past.nodes for past in earlier.phase.past[-1:]] == [p.nodes for p in pending.phase.past[-1:]]
            assert not (same and same_past), f"job {pending.job.id} jumped job {earlier.job.id}"


@given(worlds())
@BRIEF
def test_nobody_behind_an_overdue_job_takes_the_nodes_that_it_waits_for(world: World) -> None:
    view = world.view()
    plan = decide(view, Policy(overtake_s=-NOW_S), NOW_S)  # everyone has waited too long
    first_short = next((r.first for r in plan.refusals if isinstance(r.reason, NotEnoughFree)), None)
    ids = [pending.job.id for pending in waiting(view)]
    if first_short is None:
        return
    behind = set(ids[ids.index(first_short) :])
    taken = {share.node for one in plan.placements if one.job_id in behind for share in one.shares}
    pending = next(one for one in waiting(view) if one.job.id == first_short)
    request = pending.job.request
    left = [node for node in usable_nodes(view, pending) if could_hold(node, request) and node.name not in taken]
    assert len(left) >= request.nodes, f"job {first_short} needs {request.nodes} nodes, {len(left)} were left to it"


@given(worlds())
@BRIEF
def test_turns_are_in_claim_order_and_leave_nobody_out(world: World) -> None:
    view = world.view()
    assert [pending for _, pending in Turns(view)] == waiting(view)


# reasons


@given(worlds(), policies)
@BRIEF
def test_invariant_1_every_job_that_may_start_is_placed_or_spoken_for_by_one_refusal(
    world: World, policy: Policy
) -> None:
    view = world.view()
    plan = decide(view, policy, NOW_S)
    counts = f"{len(plan.placements)} placed, {[r.count for r in plan.refusals]} refused, {len(waiting(view))} waiting"
    assert len(plan.placements) + sum(refusal.count for refusal in plan.refusals) == len(waiting(view)), counts


@given(worlds())
@BRIEF
def test_the_numbers_of_a_reason_agree_with_the_refusal(world: World) -> None:
    view = world.view()
    for refusal in decide(view, PATIENT, NOW_S).refusals:
        match refusal.reason:
            case NoNodes(cordoned=cordoned, silent=silent):
                assert cordoned + silent == len(view.nodes)
            case NeverFits(nodes_wanted=wanted, nodes_big_enough=big):
                assert big < wanted == refusal.request.nodes
            case NotEnoughFree(nodes_wanted=wanted, nodes_that_fit=fit, best_free_gpus=best, free_gpus=free):
                assert fit < wanted == refusal.request.nodes
                assert 0 <= best <= free
            case HeldBack(behind_job=ahead):
                assert PRIORITY_RANK[view.jobs[JobId(ahead)].priority] < refusal.rank, "only lower classes wait"
            case other:
                raise AssertionError(f"a policy gave {other}")
        assert render(refusal.reason)
