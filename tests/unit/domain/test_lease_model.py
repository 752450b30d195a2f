"""The protocol of leases in the model: never two attempts of a job at once, and trouble costs time only."""

from __future__ import annotations

import pytest

from shunter.domain.lease import FAST, NORMAL
from tests.unit.domain.lease_model import Rules
from tests.unit.domain.lease_model_faults import Cluster, Fault, drawn

BOUND_S = {NORMAL: 5.0, FAST: 2.0}
"""From requeue_after_s to the place of a successor: one renewal, two checks, the settling. Slow packets: 8 s more."""


class Fast(Rules):
    terms = FAST


def settle(cluster: Cluster, until: float) -> None:
    """Let all faults end, switch on what is off, and wait."""
    world = cluster.world
    world.run(until)
    for node in world.nodes.values():
        node.boot()
    world.run(until + 120)


def all_run(cluster: Cluster) -> None:
    world = cluster.world
    for job in world.store.data.jobs.values():
        assert job.phase == "running", job
        attempt = world.nodes[job.node].attempts.get(job.attempt)
        assert attempt is not None and not attempt.frozen, job
    wanted = {job.attempt for job in world.store.data.jobs.values()}
    assert {name for node in world.nodes.values() for name in node.attempts} == wanted


@pytest.mark.parametrize("part", range(6))
def test_nothing_runs_twice_and_all_recovers(part: int) -> None:
    for seed in range(part * 20, part * 20 + 12):
        cluster = Cluster(seed)
        cluster.play(drawn(seed, 150.0), 200.0)
        settle(cluster, 250.0)
        all_run(cluster)


NOBODY_ENDED = [
    [Fault(60.0, "cut_all", "", 60.0)],
    [Fault(60.0, "restart_store", "", 600.0)],
    [Fault(60.0, "slow", "", 120.0)],
    [Fault(60.0, "pause_leader", "", 90.0), Fault(60.0, "cut", "c1", 600.0), Fault(60.0, "cut", "c2", 600.0)],
    [Fault(60.0, "cut_all", "", 300.0), Fault(60.0, "cut", "c1", 290.0), Fault(60.0, "cut", "c2", 305.0)],
    [Fault(60.0, "step_clock", "", 3600.0), Fault(80.0, "step_clock", "", -7200.0)],
]


@pytest.mark.parametrize("faults", NOBODY_ENDED)
def test_an_outage_of_everything_costs_time_only(faults: list[Fault]) -> None:
    for seed in range(5):
        cluster = Cluster(seed)
        cluster.world.run(55.0)
        before = (cluster.world.ended, cluster.world.requeued)
        cluster.play(faults, 750.0)
        assert (cluster.world.ended, cluster.world.requeued) == before
        all_run(cluster)


@pytest.mark.parametrize("way", ["cut", "cut_in", "cut_out"])
def test_a_cut_shorter_than_the_fence_freezes_nobody(way: str) -> None:
    """The last renewal may be as old as a renewal and its slowest packet."""
    for seed in range(10):
        cluster = Cluster(seed)
        cluster.world.run(55.0)
        before = cluster.world.frozen
        cluster.play([Fault(60.0, way, "n1", 7.0)], 120.0)
        assert cluster.world.frozen == before


@pytest.mark.parametrize(("rules", "tick_s"), [(Rules, 0.5), (Fast, 0.25)])
def test_jobs_of_a_dead_node_are_placed_elsewhere_in_time(rules: type[Rules], tick_s: float) -> None:
    for seed in range(20):
        cluster = Cluster(seed, rules(), tick_s=tick_s)
        world = cluster.world
        world.run(55.0)
        dead = next(job.node for job in world.store.data.jobs.values())
        cluster.play([Fault(60.0, "crash", dead)], 60.0 + world.terms.requeue_after_s + BOUND_S[world.terms] + 8.0)
        assert all(job.node not in ("", dead) for job in world.store.data.jobs.values())
