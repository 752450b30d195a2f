"""Why a job waits: the reason that the decision gives, with its numbers."""

from __future__ import annotations

import pytest

from shunter.domain.reason import HeldBack, NeverFits, NoNodes, NotEnoughFree
from tests.unit.scheduling.cluster import decide_on, refused, runs, waits


def test_without_nodes_it_is_that_none_has_joined() -> None:
    assert refused(decide_on("", waits(1))) == {1: NoNodes(0, 0)}


def test_it_counts_cordoned_and_silent_nodes() -> None:
    plan = decide_on("n1:1 n2:1 n3:1", waits(1), cordoned="n1 n2", silent="n2 n3")
    assert refused(plan) == {1: NoNodes(2, 1)}


def test_it_has_the_most_free_on_one_node_and_in_all() -> None:
    plan = decide_on("n1:4 n2:4 n3:8", runs(8, "n1:0"), runs(9, "n3:0,1,2,3,4,5"), waits(1, 5))
    assert refused(plan) == {1: NotEnoughFree(1, 5, 0, 4, 9)}


def test_that_of_a_gang_has_the_number_of_nodes_that_fit() -> None:
    plan = decide_on("n1:4 n2:4 n3:4", runs(9, "n1:0 n2:0"), waits(1, 4, 3))
    assert refused(plan) == {1: NotEnoughFree(3, 4, 1, 4, 10)}


def test_it_counts_what_this_very_pass_gave_away() -> None:
    plan = decide_on("n1:4", waits(1, 3), waits(2, 2))
    assert refused(plan) == {2: NotEnoughFree(1, 2, 0, 1, 1)}


def test_it_counts_whole_devices_only() -> None:
    plan = decide_on("n1:2", runs(9, "n1:0", 0.25), waits(1, 2))
    assert refused(plan) == {1: NotEnoughFree(1, 2, 0, 1, 1)}


def test_it_has_the_most_free_in_one_island_for_a_job_that_asks_for_one() -> None:
    jobs = runs(8, "n1:0,4"), runs(9, "n2:0,1,2")
    assert refused(decide_on("n1:4+4 n2:4", *jobs, waits(1, 4, within="island"))) == {
        1: NotEnoughFree(1, 4, 0, 6, 7, 3)
    }
    avoiding = waits(1, 4, within="island", avoid="n1")
    assert refused(decide_on("n1:4+4 n2:4", *jobs, avoiding)) == {1: NotEnoughFree(1, 4, 0, 1, 1, 1)}
    cores = waits(1, 3, within="island", cpus=60)
    assert refused(decide_on("n1:4+4", runs(8, "n1:0", cpus=10), cores)) == {1: NotEnoughFree(1, 3, 0, 7, 7, 4)}
    assert refused(decide_on("n1:1", runs(8, "n1:0", 0.75), waits(1, 0.5, within="island"))) == {
        1: NotEnoughFree(1, 1, 0, 0, 0)
    }


def test_free_gpus_without_free_cores_fit_nothing() -> None:
    plan = decide_on("n1:4", runs(9, "n1:0", cpus=60), waits(1, 2, cpus=5))
    assert refused(plan) == {1: NotEnoughFree(1, 2, 0, 3, 3)}


def test_it_says_when_no_set_of_nodes_could_ever_hold_the_job() -> None:
    plan = decide_on("n1:8 n2:8 n3:4", waits(1, 8, 3))
    assert refused(plan) == {1: NeverFits(3, 8, 2)}


def test_a_sick_gpu_makes_a_node_too_small() -> None:
    assert refused(decide_on("n1:8", waits(1, 8), sick="n1:3")) == {1: NeverFits(1, 8, 0)}


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({"failed_on": "n1"}, NotEnoughFree(1, 2, 0, 1, 1, left_out=("n1",))),
        ({"avoid": "n1"}, NotEnoughFree(1, 2, 0, 1, 1)),
        ({"models": "A100"}, NotEnoughFree(1, 2, 0, 1, 1)),
        ({"labels": "zone=a"}, NotEnoughFree(1, 2, 0, 1, 1)),
        ({"pool": "gold"}, NotEnoughFree(1, 2, 0, 1, 1)),
        ({"avoid": "n1 n2"}, NeverFits(1, 2, 0)),
        ({"models": "B200"}, NeverFits(1, 2, 0)),
        ({"labels": "zone=c"}, NeverFits(1, 2, 0)),
        ({"pool": "tin"}, NeverFits(1, 2, 0)),
        ({"cpus": 65}, NeverFits(1, 2, 0)),
    ],
)
def test_it_counts_only_nodes_that_the_job_may_use(wish: dict[str, str], expected: object) -> None:
    plan = decide_on("n1:8 n2:2*A100@gold#zone=a", runs(9, "n2:0"), runs(8, "n1:0,1,2,3,4,5,6"), waits(1, 2, **wish))  # type: ignore[arg-type]
    assert refused(plan) == {1: expected}


def test_one_refusal_speaks_for_all_of_a_class_and_shape_and_counts_those_that_still_wait() -> None:
    (refusal,) = decide_on("n1:2", waits(1), waits(2), waits(3), waits(4), waits(5)).refusals
    assert (refusal.first, refusal.count, refusal.rank) == (3, 3, 1)


def test_it_speaks_for_all_owners() -> None:
    (refusal,) = decide_on("n1:1", waits(1), waits(2, owner="red/bob"), waits(3, owner="cy")).refusals
    assert (refusal.first, refusal.count) == (2, 2)


def test_each_class_and_each_shape_has_a_refusal_of_its_own() -> None:
    jobs = waits(1), waits(2, 2), waits(3, priority="low"), waits(4, failed_on="n2"), waits(5, cpus=1)
    plan = decide_on("n1:2", runs(9, "n1:0,1"), *jobs)
    assert sorted(refused(plan)) == [1, 2, 3, 4, 5]


def test_a_refusal_names_the_nodes_that_failed_its_jobs() -> None:
    jobs = waits(1), waits(2, failed_on="n2"), waits(3, failed_on="n2 n1"), waits(4, failed_on="n2")
    plan = decide_on("n1:2 n2:1", runs(9, "n1:0,1"), runs(8, "n2:0"), *jobs)
    assert [(refusal.avoid, refusal.first, refusal.count) for refusal in plan.refusals] == [
        ((), 1, 1), (("n2",), 2, 2), (("n1", "n2"), 3, 1),
    ]  # fmt: skip


def test_a_group_that_is_held_back_counts_all_of_its_jobs() -> None:
    plan = decide_on("n1:4", runs(9, "n1:0", limit=100), waits(1, 4), waits(2), waits(3))
    assert [(refusal.first, refusal.count, refusal.reason) for refusal in plan.refusals] == [
        (1, 1, NotEnoughFree(1, 4, 0, 3, 3)), (2, 2, HeldBack(1)),
    ]  # fmt: skip


def test_reasons_come_in_the_order_in_which_jobs_were_looked_at() -> None:
    jobs = waits(1, 4, priority="low"), waits(2, 3), waits(3, 2, priority="high")
    assert list(refused(decide_on("n1:4", runs(9, "n1:0,1,2"), *jobs))) == [3, 2, 1]
