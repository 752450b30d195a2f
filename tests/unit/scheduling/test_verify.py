"""The second opinion: each rule that verify names is provoked by a plan made by hand."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from shunter.domain.ids import Incarnation, JobId
from shunter.domain.outcome import Outcome, Result
from shunter.domain.phase import Allocation, Ended, NodeShare, Running
from shunter.scheduling.plan import Placement, Plan
from shunter.scheduling.policy import Policy
from shunter.scheduling.verify import verify
from shunter.scheduling.view import View
from tests.unit.scheduling.cluster import Waiting, runs, shares_of, view_of, waits

RULES = {
    "placed twice",
    "job is not queued",
    "gang not whole",
    "two members on one node",
    "share is not what was asked",
    "node does not take work",
    "GPU not there or not healthy",
    "GPU held twice",
    "node over its cores",
    "node over its memory",
    "gang in more than one rack",
    "node is to be avoided",
    "node of another pool",
    "node lacks a label",
    "GPU of another model",
    "GPUs in more than one NVLink island",
}
FLEET = "n1:4/r1 n2:4/r1 n3:4/r1 n4:4/r1 n5:2+2@gold/r2*A100#zone=a"


def put(job_id: int, where: str, *, cpus: int = 0, memory_mib: int = 0, gpu_milli: int = 1_000) -> Placement:
    shares = (replace(share, cpus=cpus, memory_mib=memory_mib, gpu_milli=gpu_milli) for share in shares_of(where))
    return Placement(JobId(job_id), tuple(shares))


def broken(view: View, *placements: Placement) -> list[tuple[int, str]]:
    return [(violation.job_id, violation.rule) for violation in verify(Plan(placements, ()), view)]


CASES: dict[str, tuple[str, tuple[Waiting, ...], tuple[Placement, ...]]] = {
    "a job placed twice": ("placed twice", (waits(1),), (put(1, "n1:0"), put(1, "n1:1"))),
    "a job that nobody knows": ("job is not queued", (), (put(1, "n1:0"),)),
    "a job that runs already": ("job is not queued", (runs(1, "n1:0"),), (put(1, "n1:1"),)),
    "half a gang": ("gang not whole", (waits(1, 1, 2),), (put(1, "n1:0"),)),
    "a member too many": ("gang not whole", (waits(1),), (put(1, "n1:0 n2:0"),)),
    "no share at all": ("gang not whole", (waits(1),), (put(1, ""),)),
    "both members on one node": ("two members on one node", (waits(1, 1, 2),), (put(1, "n1:0 n1:1"),)),
    "too few GPUs": ("share is not what was asked", (waits(1, 2),), (put(1, "n1:0"),)),
    "too many GPUs": ("share is not what was asked", (waits(1),), (put(1, "n1:0,1"),)),
    "other cores than asked": ("share is not what was asked", (waits(1, cpus=4),), (put(1, "n1:0"),)),
    "other memory than asked": ("share is not what was asked", (waits(1, memory_mib=4),), (put(1, "n1:0"),)),
    "a second member that is too small": (
        "share is not what was asked",
        (waits(1, 2, 2),),
        (put(1, "n1:0,1 n2:0"),),
    ),
    "a node that has left": ("node does not take work", (waits(1),), (put(1, "n9:0"),)),
    "a cordoned node": ("node does not take work", (waits(1),), (put(1, "n3:0"),)),
    "a silent node": ("node does not take work", (waits(1),), (put(1, "n4:0"),)),
    "a GPU that is not there": ("GPU not there or not healthy", (waits(1),), (put(1, "n1:4"),)),
    "a GPU that is sick": ("GPU not there or not healthy", (waits(1),), (put(1, "n1:3"),)),
    "a GPU that a running job holds": ("GPU held twice", (runs(9, "n1:0,1"), waits(1)), (put(1, "n1:1"),)),
    "a GPU twice in one share": ("GPU held twice", (waits(1, 2),), (put(1, "n1:0,0"),)),
    "a share of a GPU that a job holds whole": (
        "GPU held twice",
        (runs(9, "n1:0"), waits(1, 0.25)),
        (put(1, "n1:0", gpu_milli=250),),
    ),
    "a whole GPU that a job holds a share of": (
        "GPU held twice",
        (runs(9, "n1:0", 0.001), waits(1)),
        (put(1, "n1:0"),),
    ),
    "shares of more than a whole": (
        "GPU held twice",
        (runs(8, "n1:0", 0.5), runs(9, "n1:0", 0.3), waits(1, 0.201)),
        (put(1, "n1:0", gpu_milli=201),),
    ),
    "a larger share than asked": ("share is not what was asked", (waits(1, 0.25),), (put(1, "n1:0", gpu_milli=500),)),
    "a whole GPU for a share": ("share is not what was asked", (waits(1, 0.25),), (put(1, "n1:0"),)),
    "the odd member first": (
        "share is not what was asked",
        (waits(1, 2, 2, last_gpus=1),),
        (put(1, "n1:0 n2:0,1"),),
    ),
    "the odd member as large as the others": (
        "share is not what was asked",
        (waits(1, 2, 2, last_gpus=1),),
        (put(1, "n1:0,1 n2:0,1"),),
    ),
    "a gang in two racks": (
        "gang in more than one rack",
        (waits(1, 1, 2, within="rack"),),
        (put(1, "n1:0 n5:0"),),
    ),
    "a node to avoid": ("node is to be avoided", (waits(1, avoid="n2 n1"),), (put(1, "n1:0"),)),
    "another pool": ("node of another pool", (waits(1, pool="gold"),), (put(1, "n1:0"),)),
    "no such label": ("node lacks a label", (waits(1, labels="zone=a"),), (put(1, "n1:0"),)),
    "a label of another value": ("node lacks a label", (waits(1, labels="zone=b"),), (put(1, "n5:0"),)),
    "another model": ("GPU of another model", (waits(1, models="H100 L40S"),), (put(1, "n5:0"),)),
    "two islands": ("GPUs in more than one NVLink island", (waits(1, 2, within="island"),), (put(1, "n5:1,2"),)),
    "more cores than are left": (
        "node over its cores",
        (runs(9, "n1:0", cpus=60), waits(1, cpus=5)),
        (put(1, "n1:1", cpus=5),),
    ),
    "more memory than is left": (
        "node over its memory",
        (runs(9, "n1:0", memory_mib=65_000), waits(1, memory_mib=600)),
        (put(1, "n1:1", memory_mib=600),),
    ),
}


def cluster(*jobs: Waiting) -> View:
    return view_of(FLEET, *jobs, cordoned="n3", silent="n4", sick="n1:3")


@pytest.mark.parametrize("case", CASES)
def test_a_bad_placement_is_refused_with_the_rule_it_breaks(case: str) -> None:
    rule, jobs, placements = CASES[case]
    assert broken(cluster(*jobs), *placements) == [(1, rule)]


def test_every_rule_has_a_bad_placement_that_provokes_it() -> None:
    assert {rule for rule, _, _ in CASES.values()} == RULES


def test_a_good_plan_breaks_no_rule() -> None:
    view = cluster(runs(9, "n1:0", cpus=60), waits(1, 2, 2, cpus=4), waits(2, 0))
    assert broken(view, put(1, "n1:1,2 n2:0,1", cpus=4), put(2, "n2:")) == []


def test_what_was_wished_for_breaks_no_rule() -> None:
    wishes = {"pool": "gold", "labels": "zone=a", "models": "a100", "within": "island", "avoid": "n1 n2"}
    assert broken(cluster(waits(1, 2, **wishes)), put(1, "n5:2,3")) == []  # type: ignore[arg-type]
    assert broken(cluster(waits(1, 2, 2, within="rack")), put(1, "n1:0,1 n2:0,1")) == []
    assert broken(cluster(waits(1, 2, 2, last_gpus=1)), put(1, "n1:0,1 n2:0")) == []
    shares = (runs(8, "n1:0", 0.5), runs(9, "n1:0", 0.3), waits(1, 0.2))
    assert broken(cluster(*shares), put(1, "n1:0", gpu_milli=200)) == []


def test_a_past_failure_is_no_rule() -> None:
    assert broken(cluster(waits(1, failed_on="n1")), put(1, "n1:0")) == []


def test_shares_given_within_one_plan_add_up() -> None:
    view = cluster(*(waits(job_id, 0.4) for job_id in (1, 2, 3)))
    plan = [put(job_id, "n1:0", gpu_milli=400) for job_id in (1, 2, 3)]
    assert broken(view, *plan) == [(3, "GPU held twice")]


def test_the_pool_is_the_one_that_the_policy_dealt_the_node() -> None:
    view = view_of("n1-4:4", waits(1, pool="gold"), policy=Policy(pools={"gold": 0.5, "tin": 0.5}))
    assert broken(view, put(1, "n1:0")) == []
    assert broken(view, put(1, "n2:0")) == [(1, "node of another pool")]


def test_invariant_2_a_gpu_given_twice_within_one_plan_is_refused_the_second_time() -> None:
    assert broken(cluster(waits(1), waits(2)), put(2, "n1:0"), put(1, "n1:0")) == [(1, "GPU held twice")]


def test_cores_given_within_one_plan_add_up() -> None:
    view = cluster(*(waits(job_id, cpus=30) for job_id in (1, 2, 3)))
    plan = [put(job_id, f"n1:{job_id - 1}", cpus=30) for job_id in (1, 2, 3)]
    assert broken(view, *plan) == [(3, "node over its cores")]


def test_a_refused_placement_holds_nothing_so_that_the_rest_of_the_plan_stands() -> None:
    view = cluster(waits(1, 2, 2), waits(2, 2))
    assert broken(view, put(1, "n1:0,1 n3:0,1"), put(2, "n1:0,1")) == [(1, "node does not take work")]


def test_an_earlier_start_of_the_node_is_not_this_node() -> None:
    old = NodeShare(shares_of("n1:0")[0].node, Incarnation("n1-0"), (0,))
    assert broken(cluster(waits(1)), Placement(JobId(1), (old,))) == [(1, "node does not take work")]


def test_what_a_job_held_before_it_ended_is_free_again() -> None:
    view = cluster(runs(9, "n1:0"), waits(1))
    job, phase = view.jobs[JobId(9)], view.phases[JobId(9)]
    assert isinstance(phase, Running)
    view.put_job(job, Ended(Outcome(Result.SUCCEEDED, 0), 9.0))
    assert broken(view, put(1, "n1:0")) == []


def test_what_a_node_holds_for_an_earlier_start_of_it_is_not_free() -> None:
    view = cluster(waits(1))
    job, phase = runs(9, "n1:0")
    assert isinstance(phase, Running)
    shares = tuple(replace(share, incarnation=Incarnation("n1-0")) for share in phase.allocation.shares)
    view.put_job(job, replace(phase, allocation=Allocation(phase.allocation.id, shares)))
    assert broken(view, put(1, "n1:0")) == [(1, "GPU held twice")]


def test_violations_come_in_plan_order_with_the_details() -> None:
    view = cluster(waits(1), waits(2, 1, 2))
    plan = Plan((put(2, "n1:0"), put(1, "n9:0")), ())
    assert [violation.job_id for violation in verify(plan, view)] == [2, 1]
    assert verify(plan, view)[0].detail == "1 of 2 members"
