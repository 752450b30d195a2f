"""Packing: jobs come in random order and stay; what fits nowhere is dropped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from shunter.domain.ids import Incarnation, JobId, NodeName
from shunter.domain.job import WHOLE_GPU, Job, Request
from shunter.domain.node import Gpu, Node
from shunter.runtime.policy_file import read_policy
from shunter.scheduling.policy import Policy
from shunter.sim.fleet import read_fleet
from shunter.sim.result import TraceJob
from shunter.sim.snapshot import STEPS, Packing, pack
from shunter.sim.trace import read_trace
from tests.strategies import BRIEF
from tests.unit.sim.traces import packing_trace

BEST_FIT = read_policy("best-fit")
TIES = ("order", "random")


def nodes_of(*gpus: int, cpus: int = 64) -> list[Node]:
    return [
        Node(
            NodeName(f"n{at}"),
            Incarnation(f"n{at}-1"),
            tuple(Gpu(index, "A100", f"n{at}-{index}", 0) for index in range(count)),
            cpus,
            65_536,
            float(at),
        )
        for at, count in enumerate(gpus)
    ]


def jobs_of(*requests: Request) -> list[TraceJob]:
    return [
        TraceJob(f"j{at}", 1.0, Job(JobId(at), f"j{at}", "ada", request, 0.0)) for at, request in enumerate(requests, 1)
    ]


def packed(jobs: list[TraceJob], nodes: list[Node], policy: Policy = BEST_FIT, seed: int = 1) -> Packing:
    return pack("any", jobs, nodes, policy, seed)


# by hand


def test_single_gpus_fill_the_fleet_to_the_last_one_and_the_rest_is_dropped() -> None:
    found = packed(jobs_of(Request(1)), nodes_of(4, 16))
    assert found.allocated == tuple(min(step, 1.0) for step in STEPS)
    assert (found.jobs, found.dropped) == (26, 6)
    assert (found.at(0.95), found.at(1.3)) == (0.95, 1.0)


def test_what_fits_nowhere_when_it_comes_is_dropped_and_asked_for_all_the_same() -> None:
    found = packed(jobs_of(Request(3)), nodes_of(4, 4, 4, 4, 4))
    assert [found.at(step) for step in (0.15, 0.75, 1.0, 1.3)] == [0.15, 0.75, 0.75, 0.75]
    assert (found.jobs, found.dropped) == (9, 4)


def test_a_job_that_is_wider_than_a_step_passes_it() -> None:
    assert packed(jobs_of(Request(8)), nodes_of(8, 8)).allocated[:11] == (0.5,) * 10 + (1.0,)


def test_cores_count_too() -> None:
    found = packed(jobs_of(Request(1, cpus=5)), nodes_of(8, cpus=11))
    assert found.at(1.3) == 0.25


def test_shares_of_a_gpu_count_as_such() -> None:
    assert packed(jobs_of(Request(1, gpu_milli=500)), nodes_of(2, 2)).at(1.0) == 1.0
    assert packed(jobs_of(Request(1, gpu_milli=600)), nodes_of(2, 2)).at(1.3) == pytest.approx(0.6)


def test_nodes_without_gpus_are_left_out() -> None:
    bare = nodes_of(0, 4, 0)
    assert packed(jobs_of(Request(1), Request(0, cpus=60)), bare) == packed(
        jobs_of(Request(1), Request(0, cpus=60)), bare[1:2]
    )


def test_jobs_that_come_again_are_jobs_of_their_own() -> None:
    assert packed(jobs_of(Request(1), Request(2)), nodes_of(8, 8)).at(1.3) == 1.0


# always

requests = st.builds(Request, st.integers(1, 8), cpus=st.integers(0, 16)) | st.builds(
    Request, gpu_milli=st.sampled_from([100, 250, 500, 700])
)
policies = st.sampled_from(["best-fit", "fgd", "default"]).map(read_policy)


@given(
    asked=st.lists(requests, min_size=1, max_size=12),
    sizes=st.lists(st.sampled_from([0, 1, 2, 4, 8]), min_size=1, max_size=5).filter(any),
    policy=policies,
    ties=st.sampled_from(TIES),
    seed=st.integers(0, 5),
)
@BRIEF
def test_shares_grow_and_stay_below_what_was_asked_for(
    asked: list[Request], sizes: list[int], policy: Policy, ties: str, seed: int
) -> None:
    policy = replace(policy, pools={}, classes={}, ties=ties)
    found = packed(jobs_of(*asked), nodes_of(*sizes), policy, seed)
    widest = max(request.milli for request in asked) / (WHOLE_GPU * sum(sizes))
    assert len(found.allocated) == len(STEPS)
    assert list(found.allocated) == sorted(found.allocated)
    for step, share in zip(STEPS, found.allocated, strict=True):
        assert 0 <= share <= min(step + widest, 1.0) + 1e-9, f"at {step}"
    assert 0 <= found.dropped <= found.jobs
    assert found == packed(jobs_of(*asked), nodes_of(*sizes), policy, seed), "the same seed, the same packing"


@pytest.mark.parametrize("ties", TIES)
def test_another_seed_is_another_order(ties: str) -> None:
    jobs, nodes = jobs_of(*map(Request, (1, 1, 2, 3, 5, 8))), nodes_of(8, 8, 8, 4)
    policy = replace(BEST_FIT, ties=ties)
    runs = [packed(jobs, nodes, policy, seed).allocated for seed in range(6)]
    assert len(set(runs)) > 2
    assert runs == [packed(jobs, nodes, policy, seed).allocated for seed in range(6)]


# a real trace


@pytest.mark.soak
@pytest.mark.parametrize("ties", TIES)
def test_the_default_policy_packs_openb_better_than_any_published_one(ties: str) -> None:
    trace, fleet = packing_trace()
    nodes = [node for node in read_fleet(fleet, partition=False) if node.gpus]
    jobs = read_trace(trace, nodes, resources=frozenset({"cpus", "memory"})).jobs
    policy = replace(read_policy("default"), pools={}, classes={}, ties=ties)
    shares = [pack("default", jobs, nodes, policy, seed).at(1.0) for seed in (1, 2)]
    assert sum(shares) / 2 >= 0.951, f"FGD is published with 95.23 %, got {shares}"
