"""What holds over time: reservations are kept, nobody wide starves, and nothing idles that nobody needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from shunter.domain.ids import JobId
from shunter.domain.job import Job
from shunter.domain.reason import NotEnoughFree
from shunter.runtime.policy_file import read_policy, shipped
from shunter.scheduling.decide import decide
from shunter.scheduling.plan import Plan
from shunter.scheduling.policy import Backfill, Policy
from tests.strategies import BRIEF, NOW_S
from tests.unit.scheduling.cluster import nodes_of, waits
from tests.unit.scheduling.forward import Forward
from tests.unit.scheduling.policies import for_each, for_every_policy, some_policies
from tests.unit.scheduling.test_safety import commit, holds, room_on, usable, waiting
from tests.unit.scheduling.worlds import World, crowds, worlds

FIXED = ("priority", "age", "shortest")
"""Parts that give every job the same place in the order for as long as it waits."""


def with_backfill(name: str) -> Policy:
    policy = read_policy(name)
    return replace(
        policy, order=tuple(part for part in policy.order if part in FIXED), backfill=policy.backfill or Backfill()
    )


def limited(world: World) -> World:
    """Return *world* with a time limit for each job."""
    jobs = ((replace(job, time_limit_s=job.time_limit_s or 300), phase) for job, phase in world.jobs)
    return World(world.nodes, world.silent, tuple(jobs))


def first_blocked(plan: Plan) -> JobId | None:
    return next((one.first for one in plan.refusals if isinstance(one.reason, NotEnoughFree)), None)


# reservations

BACKFILLS = {name: st.just(with_backfill(name)) for name in shipped()} | {
    "any": some_policies(orders=FIXED, depths=(1, 2, 3), no_backfill=False)
}


@for_each(BACKFILLS)
def test_the_first_blocked_job_starts_no_later_than_it_was_promised(policy: Policy, data: st.DataObject) -> None:
    """In a fixed order, while estimates hold and nobody arrives before it."""
    world = data.draw(crowds() | worlds(max_jobs=20, delays=False).map(limited))
    cluster = Forward(world.view(policy), NOW_S)
    promised_s: dict[JobId, float] = {}
    going = True
    while going:
        plan = cluster.cycle()
        first = plan.reservations[0] if plan.reservations else None
        if first is not None and first.job_id == first_blocked(plan):
            assert first.at_s <= promised_s.get(first.job_id, first.at_s) + 1e-6, "the promise was put off"
            promised_s[first.job_id] = first.at_s
        going = cluster.go_on()
    for job_id, at_s in promised_s.items():
        assert cluster.started_s[job_id] <= at_s + 1e-6, f"job {job_id}: {cluster.started_s[job_id]}, not {at_s}"


@for_each(BACKFILLS)
def test_what_no_reservation_needs_is_used(policy: Policy, data: st.DataObject) -> None:
    assert policy.backfill is not None
    loose = replace(policy, backfill=replace(policy.backfill, tight=False), keep_whole_s=0.0)
    view = data.draw(crowds() | worlds()).view(loose)
    plan = decide(view, loose, NOW_S)
    commit(view, plan.placements)
    kept = {name for made in plan.reservations for name in made.nodes}
    for job, phase in waiting(view):
        if job.request.nodes == 1:
            idle = [node for node in usable(view, job, phase) if node.name not in kept]
            found = [node.name for node in idle if room_on(node, view, job.request, job.request.gpus_per_node)]
            assert not found, f"job {job.id} waits though {found} have room that nobody needs"


@for_every_policy
def test_everything_that_fits_an_idle_cluster_runs_in_the_end(policy: Policy, data: st.DataObject) -> None:
    world = data.draw(crowds() | worlds(delays=False).map(limited))
    cluster = Forward(world.view(policy), NOW_S)
    cluster.run()
    for job, phase in waiting(cluster.view):
        assert not holds(usable(cluster.view, job, phase), None, job.request), f"job {job.id} waits for an idle cluster"


# a wide job among many small ones

LONGEST_S = 100
WIDE = JobId(1_000)


def stream(small: list[tuple[int, int, int]]) -> list[Job]:
    """Return a wide job of ada's and small ones of bob's, each *gap* seconds after the one before."""
    at_s, jobs = 0.0, []
    for number, (gap, gpus, limit) in enumerate(small, 1):
        at_s += gap
        # The wide one comes after the first ten.
        jobs.append(
            replace(waits(number + (WIDE if number > 10 else 0), gpus, owner="bob", limit=limit)[0], submitted_s=at_s)
        )
    wide = waits(WIDE, 4, 3, owner="ada", limit=LONGEST_S)[0]
    return [*jobs, replace(wide, submitted_s=jobs[9].submitted_s)]


def wide_job_waits(policy: Policy, jobs: list[Job]) -> tuple[float, float]:
    """Return how long the wide job waits after all that went before it had started, and when it starts."""
    cluster = Forward(World(tuple(nodes_of("n1-3:4")), frozenset(), ()).view(policy), 0.0, jobs)
    cluster.run()
    starts, submitted_s = cluster.started_s, next(job.submitted_s for job in jobs if job.id == WIDE)
    before = [starts[job.id] for job in jobs if job.id < WIDE and "fair-share" not in policy.order]
    return starts[WIDE] - max([submitted_s, *before]), starts[WIDE]


smalls = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 3), st.integers(1, LONGEST_S)), min_size=20, max_size=60)


@pytest.mark.parametrize("name", [name for name in shipped() if name != "sjf"])
@given(small=smalls)
@BRIEF
def test_a_wide_job_waits_no_longer_than_the_longest_run_once_it_is_first(
    name: str, small: list[tuple[int, int, int]]
) -> None:
    """Under fair share it is first when its owner has used less; else when those that came before it have started."""
    waited_s, _ = wide_job_waits(read_policy(name), stream(small))
    assert waited_s <= LONGEST_S


def test_under_shortest_first_a_wide_job_may_starve() -> None:
    """That is the price of sjf: it waits for as long as shorter ones come."""
    for count in (100, 400):
        small = [(2, 3, 8)] * count
        _, started_s = wide_job_waits(read_policy("sjf"), stream(small))
        assert started_s >= 2 * count


def test_small_jobs_go_on_while_a_wide_one_waits() -> None:
    """It does not make everything behind it wait: what ends in time starts."""
    policy = read_policy("default")
    small = [(1, 1, LONGEST_S)] * 10 + [(1, 1, 5)] * 20
    cluster = Forward(World(tuple(nodes_of("n1-3:4")), frozenset(), ()).view(policy), 0.0, stream(small))
    cluster.run()
    passed = [job_id for job_id, at_s in cluster.started_s.items() if job_id > WIDE and at_s < cluster.started_s[WIDE]]
    assert len(passed) == 20
