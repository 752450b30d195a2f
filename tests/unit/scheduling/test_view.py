"""The view: whatever the order of changes, it is what a view built from scratch would be."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from shunter.domain.ids import JobId, NodeName
from shunter.domain.outcome import Outcome, Result
from shunter.domain.phase import Ended, Queued, Running
from shunter.scheduling.view import Pending, View
from tests.strategies import BRIEF, NOW_S, Change, World, changes, worlds
from tests.unit.scheduling.cluster import runs, view_of, waits

N1 = NodeName("n1")
DONE = Ended(Outcome(Result.SUCCEEDED, 0), 9.0)


def picture(view: View) -> dict[str, Any]:
    """Return all that *view* knows as plain values, groups in the order in which jobs are looked at."""
    return {
        "jobs": dict(view.jobs),
        "phases": dict(view.phases),
        "nodes": dict(view.nodes),
        "silent": view.silent,
        "free": {name: (sorted(free.gpus), free.cpus, free.memory_mib) for name, free in view.free.items()},
        # A node without jobs may or may not have an (empty) entry.
        "held": {name: dict(shares) for name, shares in view.held.items() if shares},
        "groups": {group: list(jobs.items()) for group, jobs in view.groups.items()},
        "delayed": list(view.delayed),
        "pending": view.pending,
        "holders": sorted((name, job_id) for name, job_id, _ in view.holders()),
    }


def rebuilt(view: View) -> View:
    """Return a view built at once from the nodes, jobs and phases of *view*."""
    fresh = View()
    for node in view.nodes.values():
        fresh.put_node(node)
    fresh.silent = view.silent
    for job_id, job in view.jobs.items():
        fresh.put_job(job, view.phases[job_id])
    return fresh


@given(changes)
@BRIEF
def test_a_view_kept_up_to_date_equals_one_built_from_scratch(sequence: list[Change]) -> None:
    view = View()
    for change in sequence:
        change.apply(view)
    fresh = rebuilt(view)
    for one in (view, fresh):
        one.advance(NOW_S + 10)  # later than any time drawn, for a view never moves back
    assert picture(view) == picture(fresh)


@given(worlds(), st.data())
@BRIEF
def test_the_order_in_which_jobs_are_put_into_a_view_does_not_matter(world: World, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(world.jobs))))
    assert picture(world.view()) == picture(world.view(order))


@given(worlds())
@BRIEF
def test_putting_a_job_again_changes_nothing(world: World) -> None:
    view = world.view()
    before = picture(view)
    for job, phase in world.jobs:
        view.put_job(job, phase)
    view.advance(NOW_S)
    assert picture(view) == before


@given(worlds())
@BRIEF
def test_when_all_jobs_have_ended_every_healthy_gpu_is_free_and_no_job_is_left(world: World) -> None:
    view = world.view()
    for job, _ in world.jobs:
        view.put_job(job, DONE)
    assert picture(view) == picture(World(world.nodes, world.silent, ()).view())
    for node in world.nodes:
        assert view.free[node.name].gpus == {gpu.index for gpu in node.gpus if gpu.healthy}


@given(worlds())
@BRIEF
def test_invariant_1_every_waiting_job_stands_in_one_group_or_is_delayed(world: World) -> None:
    view = world.view()
    grouped = [job_id for jobs in view.groups.values() for job_id in jobs]
    delayed = [job_id for _, job_id in view.delayed]
    waiting = [job.id for job, phase in world.jobs if isinstance(phase, Queued)]
    assert sorted(grouped + delayed) == waiting
    assert view.pending == len(waiting)


# scenarios


def test_an_ended_job_is_forgotten_and_its_gpus_are_free() -> None:
    view = view_of("n1:4", runs(1, "n1:0,1", cpus=4, memory_mib=100))
    job, _ = runs(1, "n1:0,1")
    view.put_job(job, DONE)
    assert (view.jobs, view.phases, view.held[N1]) == ({}, {}, {})
    assert (view.free[N1].gpus, view.free[N1].cpus) == ({0, 1, 2, 3}, 64)


def test_the_end_of_an_unknown_job_is_no_trouble() -> None:
    view = view_of("n1:4")
    view.put_job(waits(7)[0], DONE)
    assert view.pending == 0


def test_a_node_that_joins_after_its_jobs_were_seen_knows_what_they_hold() -> None:
    view = View()
    view.put_job(*runs(1, "n1:0,1", cpus=4))
    view.put_node(view_of("n1:4").nodes[N1])
    assert (view.free[N1].gpus, view.free[N1].cpus) == ({2, 3}, 60)


def test_a_node_that_left_and_came_back_knows_what_its_jobs_hold() -> None:
    view = view_of("n1:4", runs(1, "n1:0,1"))
    node = view.nodes[N1]
    view.remove_node(N1)
    assert list(view.schedulable()) == []
    view.put_node(node)
    assert view.free[N1].gpus == {2, 3}


def test_a_job_may_end_after_its_node_left() -> None:
    view = view_of("n1:4", runs(1, "n1:0,1"))
    view.remove_node(N1)
    view.put_job(runs(1, "n1:0,1")[0], DONE)
    assert list(view.holders()) == []


def test_a_gpu_that_falls_ill_is_no_longer_free_and_one_that_recovers_is() -> None:
    view = view_of("n1:2")
    well = view.nodes[N1]
    view.put_node(replace(well, gpus=(replace(well.gpus[0], healthy=False), well.gpus[1])))
    assert view.free[N1].gpus == {1}
    view.put_node(well)
    assert view.free[N1].gpus == {0, 1}


def test_a_delayed_job_joins_the_queue_when_its_time_has_come_and_not_before() -> None:
    view = view_of("n1:1")
    job, phase = waits(1, avoid="n1", not_before_s=50.0)
    view.put_job(job, phase)
    view.advance(49.9)
    assert (len(view.groups), view.pending) == (0, 1)
    view.advance(50.0)
    assert (len(view.groups), len(view.delayed), view.pending) == (1, 0, 1)


def test_a_delayed_job_that_is_cancelled_leaves_nothing_behind() -> None:
    view = view_of("n1:1")
    job, phase = waits(1, avoid="n1", not_before_s=50.0)
    view.put_job(job, phase)
    view.put_job(job, DONE)
    view.advance(99.0)
    assert view.pending == 0


def test_the_last_job_of_a_group_takes_the_group_with_it() -> None:
    view = view_of("n1:1", waits(1), waits(2))
    assert len(view.groups) == 1
    for job_id in (1, 2):
        view.put_job(waits(job_id)[0], DONE)
    assert view.groups == {}


def test_a_job_is_not_pending_while_it_runs_and_is_again_when_requeued() -> None:
    view = view_of("n1:1", waits(1))
    job, queued = waits(1)
    _, running = runs(1, "n1:0")
    assert isinstance(running, Running)
    assert isinstance(queued, Queued)
    view.put_job(job, running)
    assert (view.pending, view.free[N1].gpus) == (0, set())
    view.put_job(job, queued)
    assert (view.pending, view.free[N1].gpus) == (1, {0})
    assert list(next(iter(view.groups.values())).values()) == [Pending(job, queued)]


def test_only_the_nodes_of_the_newest_past_attempt_are_avoided() -> None:
    job, phase = waits(1, avoid="n1")
    assert isinstance(phase, Queued)
    view = View()
    view.put_job(job, replace(phase, past=(*phase.past, replace(phase.past[0], nodes=(NodeName("n2"),)))))
    assert [group.avoid for group in view.groups] == [frozenset({"n2"})]


def test_jobs_of_one_class_and_shape_share_a_group_and_others_do_not() -> None:
    view = view_of("n1:1", waits(1), waits(2), waits(3, 2), waits(4, priority="high"), waits(5, avoid="n1"))
    assert sorted(sorted(map(int, jobs)) for jobs in view.groups.values()) == [[1, 2], [3], [4], [5]]
    assert JobId(1) in view.jobs
