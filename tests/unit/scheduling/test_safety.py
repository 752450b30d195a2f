"""What holds for every view and every policy: a plan is safe, as asked, repeatable, and says why the others wait.

The oracles count from the nodes' inventories and the jobs' phases, not from what the view keeps for speed.
"""

from __future__ import annotations

from hypothesis import strategies as st
from msgspec.structs import replace

from shunter.domain.event import Placed
from shunter.domain.ids import AllocationId, JobId
from shunter.domain.job import PRIORITY_RANK, Job, Request, Within
from shunter.domain.narrow import is_model
from shunter.domain.node import Node
from shunter.domain.phase import Allocation, Queued
from shunter.domain.reason import HeldBack, InLine, NeverFits, NoNodes, NotEnoughFree, render
from shunter.domain.transition import apply
from shunter.scheduling.decide import decide
from shunter.scheduling.plan import Placement, Plan
from shunter.scheduling.policy import Backfill, Policy
from shunter.scheduling.verify import verify
from shunter.scheduling.view import View
from tests.strategies import NOW_S, allocations
from tests.unit.scheduling.picture import picture
from tests.unit.scheduling.policies import for_every_policy
from tests.unit.scheduling.worlds import Rest, World, crowds, overbooked, shares_on, worlds


def commit(view: View, placements: tuple[Placement, ...]) -> None:
    for number, placement in enumerate(placements):
        allocation = Allocation(AllocationId(f"2.{number}"), placement.shares)
        phase = apply(view.phases[placement.job_id], Placed(NOW_S, "coordinator-1", allocation))
        view.put_job(view.jobs[placement.job_id], phase)


# what a job may use, and what has room


def pools_for(job: Job, view: View) -> set[str]:
    """Return the pools that *job* may use under the view's policy."""
    if job.request.pool:
        return {job.request.pool}
    every, policy = set(view.pools.values()), view.policy
    route = policy.classes.get(job.priority)
    if route is None or len(view.nodes) < policy.share_all_below or route.home not in every:
        return every
    return {"", route.home, *(() if policy.strict else route.borrow)}


def wished_for(node: Node, job: Job, view: View) -> bool:
    """Return whether *node* is one that *job* asks for, and takes work."""
    request = job.request
    return (
        not node.cordoned
        and node.name not in view.silent
        and node.name not in request.avoid
        and view.pools[node.name] in pools_for(job, view)
        and all(node.labels.get(key) == value for key, value in request.labels)
        and all(is_model(request.models, gpu.model) for gpu in node.gpus if gpu.healthy)
    )


def room_on(node: Node, view: View | None, request: Request, gpus: int) -> bool:
    """Return whether *node* holds one more member that takes *gpus* devices: now, or idle if there is no *view*."""
    shares = shares_on(view.phases.values(), node.name) if view else []
    islands = {gpu.island for gpu in node.gpus} if request.within is Within.ISLAND else {None}
    for island in islands or {None}:
        gpus_here = tuple(gpu for gpu in node.gpus if gpu.healthy and island in (None, gpu.island))
        if Rest(replace(node, gpus=gpus_here), shares).room(request, gpus):
            return True
    return False


def holds(nodes: list[Node], view: View | None, request: Request) -> bool:
    """Return whether *nodes* have room for all members of *request*."""
    racks = {node.rack for node in nodes} if request.within is Within.RACK else {None}
    for rack in racks:
        here = [node for node in nodes if rack in (None, node.rack)]
        full = sum(room_on(node, view, request, request.gpus_per_node) for node in here)
        last = sum(room_on(node, view, request, request.gpus_of_last) for node in here)
        if full >= request.nodes - bool(request.last_gpus) and last >= request.nodes:
            return True
    return False


def usable(view: View, job: Job, phase: Queued) -> list[Node]:
    """Return the nodes that may take the job: not the ones that just failed it, unless it needs them or a minute has
    passed."""
    nodes = [node for node in view.nodes.values() if wished_for(node, job, view)]
    recently = NOW_S - max(phase.since_s, phase.not_before_s) < 60
    failed = set(phase.past[-1].nodes) if phase.past and recently else set()
    others = [node for node in nodes if node.name not in failed]
    return others if holds(others, None, job.request) else nodes


def waiting(view: View) -> list[tuple[Job, Queued]]:
    """Return the jobs that may be placed now."""
    found = [(view.jobs[job_id], phase) for job_id, phase in sorted(view.phases.items())]
    return [(job, phase) for job, phase in found if isinstance(phase, Queued) and phase.not_before_s <= NOW_S]


# safety


@for_every_policy
def test_verify_agrees_with_every_plan_of_decide(policy: Policy, data: st.DataObject) -> None:
    view = data.draw(worlds() | crowds()).view(policy)
    assert verify(decide(view, policy, NOW_S), view) == ()


@for_every_policy
def test_invariant_2_no_gpu_is_held_twice_and_no_node_is_over_capacity(policy: Policy, data: st.DataObject) -> None:
    view = data.draw(worlds() | crowds()).view(policy)
    assert overbooked(view) == [], "the world itself is wrong"
    commit(view, decide(view, policy, NOW_S).placements)
    assert overbooked(view) == []


@for_every_policy
def test_only_healthy_free_gpus_of_nodes_that_take_work_are_given(policy: Policy, data: st.DataObject) -> None:
    view = data.draw(worlds() | crowds()).view(policy)
    for placement in decide(view, policy, NOW_S).placements:
        for share in placement.shares:
            node = view.nodes[share.node]
            assert not node.cordoned
            assert node.name not in view.silent
            assert node.incarnation == share.incarnation
            assert {gpu.index for gpu in node.gpus if gpu.healthy}.issuperset(share.gpus)
            assert list(share.gpus) == sorted(set(share.gpus))


@for_every_policy
def test_invariant_6_a_gang_is_placed_whole_on_different_nodes_or_not_at_all(
    policy: Policy, data: st.DataObject
) -> None:
    view = data.draw(worlds() | crowds()).view(policy)
    for placement in decide(view, policy, NOW_S).placements:
        request = view.jobs[placement.job_id].request
        assert len({share.node for share in placement.shares}) == len(placement.shares) == request.nodes
        for rank, share in enumerate(placement.shares):
            assert len(share.gpus) == request.gpus_of(rank)
            assert (share.cpus, share.memory_mib) == (request.cpus, request.memory_mib)
            assert share.gpu_milli == request.gpu_milli


@for_every_policy
def test_what_a_job_wishes_for_is_what_it_gets(policy: Policy, data: st.DataObject) -> None:
    view = data.draw(worlds() | crowds()).view(policy)
    for placement in decide(view, policy, NOW_S).placements:
        job = view.jobs[placement.job_id]
        nodes = [view.nodes[share.node] for share in placement.shares]
        assert all(wished_for(node, job, view) for node in nodes)
        if job.request.within is Within.RACK:
            assert len({node.rack for node in nodes}) == 1
        if job.request.within is Within.ISLAND:
            for share, node in zip(placement.shares, nodes, strict=True):
                assert len({gpu.island for gpu in node.gpus if gpu.index in share.gpus}) <= 1


@for_every_policy
def test_invariant_8_a_job_goes_where_it_just_failed_only_when_it_needs_to(policy: Policy, data: st.DataObject) -> None:
    view = data.draw(worlds() | crowds()).view(policy)
    for placement in decide(view, policy, NOW_S).placements:
        phase = view.phases[placement.job_id]
        assert isinstance(phase, Queued)
        allowed = {node.name for node in usable(view, view.jobs[placement.job_id], phase)}
        assert allowed.issuperset(share.node for share in placement.shares)


@for_every_policy
def test_invariant_2_what_verify_lets_pass_of_any_plan_never_overbooks(policy: Policy, data: st.DataObject) -> None:
    world = data.draw(worlds() | crowds())
    view = world.view(policy)
    placements = [Placement(job.id, data.draw(allocations(job.request)).shares) for job, _ in world.jobs]
    accepted = accepted_by_verify(tuple(placements), view)
    assert accepted_by_verify(accepted, view) == accepted
    commit(view, accepted)
    assert overbooked(view) == []


@for_every_policy
def test_a_plan_from_a_stale_view_loses_exactly_the_placements_that_no_longer_fit(
    policy: Policy, data: st.DataObject
) -> None:
    world = data.draw(worlds() | crowds())
    before_others_came = tuple(entry for entry in world.jobs if isinstance(entry[1], Queued))
    plan = decide(World(world.nodes, world.silent, before_others_came).view(policy), policy, NOW_S)
    view, fitting = world.view(policy), []
    for placement in plan.placements:
        queued = view.phases[placement.job_id]
        commit(view, (placement,))
        if overbooked(view):
            view.put_job(view.jobs[placement.job_id], queued)
        else:
            fitting.append(placement)
    assert accepted_by_verify(plan.placements, world.view(policy)) == tuple(fitting)


def accepted_by_verify(placements: tuple[Placement, ...], view: View) -> tuple[Placement, ...]:
    refused = {violation.job_id for violation in verify(Plan(placements, ()), view)}
    return tuple(placement for placement in placements if placement.job_id not in refused)


# purity


@for_every_policy
def test_the_same_jobs_give_the_same_plan_in_whatever_order_they_came_into_the_view(
    policy: Policy, data: st.DataObject
) -> None:
    world = data.draw(worlds() | crowds())
    plan = decide(world.view(policy), policy, NOW_S)
    order = data.draw(st.permutations(range(len(world.jobs))))
    nodes = tuple(data.draw(st.permutations(world.nodes)))
    assert decide(World(nodes, world.silent, world.jobs).view(policy, order), policy, NOW_S) == plan


@for_every_policy
def test_decide_does_not_change_the_view_and_answers_the_same_again(policy: Policy, data: st.DataObject) -> None:
    view = data.draw(worlds() | crowds()).view(policy)
    before = picture(view)
    plan = decide(view, policy, NOW_S)
    verify(plan, view)
    assert picture(view) == before
    assert decide(view, policy, NOW_S) == plan


# nothing idles that could work


def without_reservations(policy: Policy) -> Policy:
    return replace(policy, backfill=Backfill(depth=0), keep_whole_s=0.0)


@for_every_policy
def test_a_refused_job_does_not_fit_what_is_left_where_nobody_is_held_back(policy: Policy, data: st.DataObject) -> None:
    free_for_all = without_reservations(policy)
    view = data.draw(worlds() | crowds()).view(free_for_all)
    commit(view, decide(view, free_for_all, NOW_S).placements)
    for job, phase in waiting(view):
        assert not holds(usable(view, job, phase), view, job.request), f"job {job.id} could start"


@for_every_policy
def test_a_second_pass_right_after_the_first_places_nothing_more_where_nobody_is_held_back(
    policy: Policy, data: st.DataObject
) -> None:
    free_for_all = without_reservations(policy)
    view = data.draw(worlds() | crowds()).view(free_for_all)
    commit(view, decide(view, free_for_all, NOW_S).placements)
    assert decide(view, free_for_all, NOW_S).placements == ()


@for_every_policy
def test_without_backfill_nobody_starts_on_a_node_that_a_blocked_job_before_it_may_use(
    policy: Policy, data: st.DataObject
) -> None:
    in_line = replace(policy, backfill=None, order=("priority", "age"))
    view = data.draw(worlds() | crowds()).view(in_line)
    placed = {placement.job_id: placement for placement in decide(view, in_line, NOW_S).placements}
    closed: set[str] = set()
    for job, phase in sorted(waiting(view), key=lambda one: (PRIORITY_RANK[one[0].priority], one[0].id)):
        if job.id in placed:
            assert closed.isdisjoint(share.node for share in placed[job.id].shares), f"job {job.id} jumped the line"
        elif holds(usable(view, job, phase), None, job.request):
            closed |= {node.name for node in usable(view, job, phase)}


# reasons


@for_every_policy
def test_invariant_1_every_job_that_may_start_is_placed_or_spoken_for_by_one_refusal(
    policy: Policy, data: st.DataObject
) -> None:
    view = data.draw(worlds() | crowds()).view(policy)
    plan = decide(view, policy, NOW_S)
    ready = {job.id for job, _ in waiting(view)}
    counts = f"{len(plan.placements)} placed, {[r.count for r in plan.refusals]} refused, {len(ready)} waiting"
    assert len(plan.placements) + sum(refusal.count for refusal in plan.refusals) == len(ready), counts
    assert all(refusal.count > 0 for refusal in plan.refusals), counts
    placed = {placement.job_id for placement in plan.placements}
    assert {refusal.first for refusal in plan.refusals} <= ready - placed


@for_every_policy
def test_the_numbers_of_a_reason_agree_with_the_refusal(policy: Policy, data: st.DataObject) -> None:
    view = data.draw(worlds() | crowds()).view(policy)
    plan = decide(view, policy, NOW_S)
    first = {refusal.first: view.jobs[refusal.first] for refusal in plan.refusals}
    for refusal in plan.refusals:
        request = refusal.request
        match refusal.reason:
            case NoNodes(cordoned=cordoned, silent=silent):
                assert cordoned + silent == len(view.nodes)
            case NeverFits(nodes_wanted=wanted, gpus_per_node=gpus, nodes_big_enough=big):
                assert (wanted, gpus) == (request.nodes, request.gpus_per_node)
                assert 0 <= big < wanted
            case NotEnoughFree(nodes_wanted=wanted, nodes_that_fit=fit, best_free_gpus=best, free_gpus=free):
                assert wanted == request.nodes
                assert 0 <= best <= free
                assert fit < wanted or request.within is Within.RACK
            case HeldBack(behind_job=ahead) | InLine(behind_job=ahead):
                assert isinstance(view.phases[JobId(ahead)], Queued)
                assert ahead != refusal.first
            case other:
                raise AssertionError(f"a policy gave {other}")
        assert refusal.rank == PRIORITY_RANK[first[refusal.first].priority]
        assert render(refusal.reason)


@for_every_policy
def test_who_is_said_never_to_fit_fits_no_idle_cluster_and_who_is_not_does(policy: Policy, data: st.DataObject) -> None:
    free_for_all = without_reservations(policy)
    view = data.draw(worlds() | crowds()).view(free_for_all)
    for refusal in decide(view, free_for_all, NOW_S).refusals:
        phase = view.phases[refusal.first]
        assert isinstance(phase, Queued)
        nodes = usable(view, view.jobs[refusal.first], phase)
        if not isinstance(refusal.reason, NoNodes):
            assert holds(nodes, None, refusal.request) is not isinstance(refusal.reason, NeverFits)
