"""Scenarios of one pass: nodes, jobs, the plan; one call each."""

from __future__ import annotations

import pytest

from shunter.domain.reason import HeldBack, NeverFits, NoNodes, NotEnoughFree
from shunter.scheduling.decide import decide
from shunter.scheduling.plan import Plan
from shunter.scheduling.policy import Policy
from tests.unit.scheduling.cluster import NOW_S, OVERTAKE_S, decide_on, placed, refused, runs, view_of, waits

# order


def test_nothing_waits_nothing_is_planned() -> None:
    assert decide_on("n1:8", runs(1, "n1:0")) == Plan((), ())


def test_higher_priority_goes_first_whenever_it_came() -> None:
    plan = decide_on("n1:1", waits(1, priority="low"), waits(2, priority="medium"), waits(3, priority="high"))
    assert placed(plan) == {3: "n1:0"}
    assert list(refused(plan)) == [2, 1]


def test_within_a_class_first_come_is_first_served() -> None:
    plan = decide_on("n1:2", waits(3), waits(2), waits(1))
    assert placed(plan) == {1: "n1:0", 2: "n1:1"}
    assert list(refused(plan)) == [3]


def test_first_come_first_served_holds_across_different_shapes() -> None:
    plan = decide_on("n1:4", waits(1, 2), waits(2, 1), waits(3, 2), waits(4, 1))
    assert placed(plan) == {1: "n1:0,1", 2: "n1:2", 4: "n1:3"}


def test_a_retried_job_keeps_its_place_in_the_queue() -> None:
    plan = decide_on("n1:1 n2:1", runs(9, "n2:0"), waits(1, avoid="n2", not_before_s=NOW_S - 1), waits(2))
    assert placed(plan) == {1: "n1:0"}


def test_a_retry_that_backs_off_is_not_looked_at() -> None:
    assert decide_on("n1:1", waits(1, avoid="n2", not_before_s=NOW_S + 1)) == Plan((), ())


def test_the_class_of_a_job_does_not_help_it_past_an_equal_one() -> None:
    plan = decide_on("n1:1", waits(2, priority="high"), waits(1, priority="high"))
    assert placed(plan) == {1: "n1:0"}


# fit


def test_best_fit_picks_the_fullest_node_that_still_holds_the_job() -> None:
    plan = decide_on("n1:8 n2:8 n3:8", runs(1, "n1:0,1"), runs(2, "n2:0,1,2,3,4"), runs(3, "n3:0"), waits(4, 3))
    assert placed(plan) == {4: "n2:5,6,7"}


def test_a_node_too_full_is_not_a_best_fit() -> None:
    plan = decide_on("n1:8 n2:8", runs(1, "n1:0,1,2,3,4,5"), waits(2, 3))
    assert placed(plan) == {2: "n2:0,1,2"}


def test_small_jobs_leave_a_whole_node_to_a_wide_one() -> None:
    plan = decide_on("n1:8 n2:8", waits(1, 1), waits(2, 1), waits(3, 8))
    assert placed(plan) == {1: "n1:0", 2: "n1:1", 3: "n2:0,1,2,3,4,5,6,7"}


def test_equally_full_nodes_are_taken_by_name() -> None:
    assert placed(decide_on("n2:4 n1:4 n3:4", waits(1))) == {1: "n1:0"}


def test_the_lowest_free_devices_are_given() -> None:
    assert placed(decide_on("n1:6", runs(1, "n1:0,2"), waits(2, 3))) == {2: "n1:1,3,4"}


def test_a_job_without_gpus_goes_to_the_node_with_the_fewest_free_ones() -> None:
    assert placed(decide_on("n1:8 n2:2", waits(1, 0, cpus=4))) == {1: "n2:"}


def test_an_unhealthy_gpu_is_not_given() -> None:
    plan = decide_on("n1:4", waits(1, 2), waits(2, 2), sick="n1:0,2")
    assert placed(plan) == {1: "n1:1,3"}
    assert refused(plan) == {2: NotEnoughFree(1, 2, 0, 0, 0)}


def test_a_gpu_that_fell_ill_under_a_job_is_neither_free_nor_counted_twice() -> None:
    assert placed(decide_on("n1:2", runs(1, "n1:0"), waits(2), waits(3), sick="n1:0")) == {2: "n1:1"}


@pytest.mark.parametrize("where", ["cordoned", "silent"])
def test_a_cordoned_or_silent_node_gets_nothing(where: str) -> None:
    plan = decide_on("n1:8 n2:1", waits(1), waits(2), **{where: "n1"})  # type: ignore[arg-type]
    assert placed(plan) == {1: "n2:0"}


def test_cores_are_respected_though_gpus_are_free() -> None:
    plan = decide_on("n1:8", runs(1, "n1:0", cpus=40), waits(2, cpus=20), waits(3, cpus=20), cpus=64)
    assert placed(plan) == {2: "n1:1"}
    assert refused(plan) == {3: NotEnoughFree(1, 1, 0, 6, 6)}


def test_memory_is_respected_though_gpus_are_free() -> None:
    plan = decide_on(
        "n1:8", runs(1, "n1:0", memory_mib=500), waits(2, memory_mib=400), waits(3, memory_mib=400), memory_mib=1_000
    )
    assert placed(plan) == {2: "n1:1"}


def test_cores_and_memory_choose_another_node() -> None:
    plan = decide_on("n1:2 n2:8", runs(1, "n1:0", cpus=60), waits(2, cpus=8))
    assert placed(plan) == {2: "n2:0"}


# gangs


def test_invariant_6_a_gang_gets_a_share_on_each_of_as_many_nodes_fullest_first() -> None:
    plan = decide_on("n1:4 n2:4 n3:4", runs(1, "n3:0"), waits(2, 2, nodes=2))
    assert placed(plan) == {2: "n3:1,2 n1:0,1"}


def test_invariant_6_a_gang_that_does_not_fit_whole_takes_nothing() -> None:
    plan = decide_on("n1:4 n2:4", runs(1, "n2:0"), waits(2, 4, nodes=2), waits(3, 4))
    assert placed(plan) == {3: "n1:0,1,2,3"}


def test_two_members_never_share_a_node_though_it_would_hold_both() -> None:
    plan = decide_on("n1:8", waits(1, 2, nodes=2))
    assert placed(plan) == {}


def test_two_gangs_do_not_take_half_of_the_cluster_each() -> None:
    plan = decide_on("n1:4 n2:4 n3:4", waits(1, 4, nodes=2), waits(2, 4, nodes=2))
    assert placed(plan) == {1: "n1:0,1,2,3 n2:0,1,2,3"}


# overtaking


def test_a_wide_job_that_does_not_fit_lets_small_ones_pass_at_first() -> None:
    plan = decide_on("n1:4", runs(9, "n1:0"), waits(1, 4, waited_s=OVERTAKE_S), waits(2), waits(3))
    assert placed(plan) == {2: "n1:1", 3: "n1:2"}


def test_a_wide_job_that_waited_too_long_holds_the_others_back() -> None:
    plan = decide_on("n1:4", runs(9, "n1:0"), waits(1, 4, waited_s=OVERTAKE_S + 1), waits(2), waits(3, priority="low"))
    assert placed(plan) == {}
    assert refused(plan) == {1: NotEnoughFree(1, 4, 0, 3, 3), 2: HeldBack(1), 3: HeldBack(1)}


def test_a_job_that_waited_too_long_holds_nobody_of_a_higher_claim_back() -> None:
    plan = decide_on("n1:4", runs(9, "n1:0"), waits(1, 4, waited_s=OVERTAKE_S + 1), waits(2, priority="high"))
    assert placed(plan) == {2: "n1:1"}


def test_a_job_that_waited_too_long_starts_when_it_fits_and_holds_nobody_back() -> None:
    plan = decide_on("n1:4 n2:4", waits(1, 4, waited_s=OVERTAKE_S + 1), waits(2))
    assert placed(plan) == {1: "n1:0,1,2,3", 2: "n2:0"}


def test_a_job_that_can_never_fit_holds_nobody_back() -> None:
    plan = decide_on("n1:4", waits(1, 8, waited_s=OVERTAKE_S + 1), waits(2))
    assert placed(plan) == {2: "n1:0"}


def test_only_the_first_that_waited_too_long_is_named() -> None:
    overdue = [waits(job_id, 4 + job_id, waited_s=OVERTAKE_S + 1) for job_id in (1, 2)]
    plan = decide_on("n1:8", runs(9, "n1:0,1,2,3"), *overdue, waits(3))
    assert refused(plan) == {1: NotEnoughFree(1, 5, 0, 4, 4), 2: NotEnoughFree(1, 6, 0, 4, 4), 3: HeldBack(1)}


def test_lower_classes_stay_off_the_node_that_a_wide_job_waits_for_and_work_elsewhere() -> None:
    low = [waits(job_id, priority="low") for job_id in (2, 3, 4)]
    plan = decide_on("n1:4 n2:4", runs(9, "n1:0"), runs(8, "n2:0,1"), waits(1, 4, priority="high"), *low)
    assert placed(plan) == {2: "n2:2", 3: "n2:3"}
    assert refused(plan) == {1: NotEnoughFree(1, 4, 0, 3, 5), 4: HeldBack(1)}


def test_a_wide_job_keeps_no_more_nodes_than_it_needs() -> None:
    plan = decide_on("n1:4 n2:4", runs(9, "n1:0"), waits(1, 4, nodes=2, priority="high"), waits(2, priority="low"))
    assert placed(plan) == {}
    plan = decide_on("n1:4 n2:4 n3:2", runs(9, "n1:0"), waits(1, 4, nodes=2, priority="high"), waits(2, priority="low"))
    assert placed(plan) == {2: "n3:0"}


def test_each_class_keeps_nodes_of_its_own() -> None:
    held = [runs(8, "n1:0"), runs(9, "n2:0")]
    plan = decide_on("n1:4 n2:4", *held, waits(1, 4, priority="high"), waits(2, 4), waits(3), waits(4, priority="low"))
    assert placed(plan) == {3: "n2:1"}
    assert refused(plan) == {
        1: NotEnoughFree(1, 4, 0, 3, 6), 2: NotEnoughFree(1, 4, 0, 3, 6), 4: HeldBack(1),
    }  # fmt: skip


# avoiding the node that failed


def test_invariant_8_a_job_does_not_return_to_the_node_that_just_failed_it() -> None:
    plan = decide_on("n1:8 n2:8", runs(9, "n1:0,1"), waits(1, avoid="n1"))
    assert placed(plan) == {1: "n2:0"}


def test_invariant_8_it_waits_for_another_node_that_is_full_rather_than_return() -> None:
    plan = decide_on("n1:8 n2:1", runs(9, "n2:0"), waits(1, avoid="n1"))
    assert placed(plan) == {}


def test_it_returns_when_no_other_node_could_ever_hold_it() -> None:
    plan = decide_on("n1:8 n2:1", waits(1, 4, avoid="n1"))
    assert placed(plan) == {1: "n1:0,1,2,3"}


@pytest.mark.parametrize("where", ["cordoned", "silent"])
def test_it_returns_when_every_other_node_takes_no_work(where: str) -> None:
    plan = decide_on("n1:8 n2:8", waits(1, avoid="n1"), **{where: "n2"})  # type: ignore[arg-type]
    assert placed(plan) == {1: "n1:0"}


def test_it_returns_to_the_only_node() -> None:
    assert placed(decide_on("n1:1", waits(1, avoid="n1"))) == {1: "n1:0"}


def test_a_gang_avoids_the_nodes_of_its_last_attempt_when_enough_others_are_there() -> None:
    plan = decide_on("n1:4 n2:4 n3:4 n4:4", waits(1, 4, nodes=2, avoid="n1 n2"))
    assert placed(plan) == {1: "n3:0,1,2,3 n4:0,1,2,3"}


def test_one_job_s_avoid_list_is_not_another_s() -> None:
    plan = decide_on("n1:1 n2:1", waits(1, avoid="n1"), waits(2))
    assert placed(plan) == {1: "n2:0", 2: "n1:0"}


# reasons


def test_the_reason_without_nodes_is_that_none_has_joined() -> None:
    assert refused(decide_on("", waits(1))) == {1: NoNodes(0, 0)}


def test_the_reason_counts_cordoned_and_silent_nodes() -> None:
    plan = decide_on("n1:1 n2:1 n3:1", waits(1), cordoned="n1 n2", silent="n2 n3")
    assert refused(plan) == {1: NoNodes(2, 1)}


def test_the_reason_has_the_most_free_on_one_node_and_in_all() -> None:
    plan = decide_on("n1:4 n2:4 n3:8", runs(8, "n1:0"), runs(9, "n3:0,1,2,3,4,5"), waits(1, 5))
    assert refused(plan) == {1: NotEnoughFree(1, 5, 0, 4, 9)}


def test_the_reason_of_a_gang_has_the_number_of_nodes_that_fit() -> None:
    plan = decide_on("n1:4 n2:4 n3:4", runs(9, "n1:0 n2:0"), waits(1, 4, nodes=3))
    assert refused(plan) == {1: NotEnoughFree(3, 4, 1, 4, 10)}


def test_the_reason_counts_what_this_very_pass_gave_away() -> None:
    plan = decide_on("n1:4", waits(1, 3), waits(2, 2))
    assert refused(plan) == {2: NotEnoughFree(1, 2, 0, 1, 1)}


def test_the_reason_says_when_no_set_of_nodes_could_ever_hold_the_job() -> None:
    plan = decide_on("n1:8 n2:8 n3:4", waits(1, 8, nodes=3))
    assert refused(plan) == {1: NeverFits(3, 8, 2)}


def test_a_sick_gpu_makes_a_node_too_small() -> None:
    assert refused(decide_on("n1:8", waits(1, 8), sick="n1:3")) == {1: NeverFits(1, 8, 0)}


def test_the_reason_counts_only_nodes_that_the_job_may_use() -> None:
    plan = decide_on("n1:8 n2:2", runs(9, "n2:0"), waits(1, 2, avoid="n1"))
    assert refused(plan) == {1: NotEnoughFree(1, 2, 0, 1, 1)}


def test_one_refusal_speaks_for_all_of_a_class_and_shape_and_counts_those_that_still_wait() -> None:
    (refusal,) = decide_on("n1:2", waits(1), waits(2), waits(3), waits(4), waits(5)).refusals
    assert (refusal.first, refusal.count) == (3, 3)


def test_a_held_back_group_counts_all_of_its_jobs() -> None:
    plan = decide_on("n1:4", runs(9, "n1:0"), waits(1, 4, waited_s=OVERTAKE_S + 1), waits(2), waits(3))
    assert [(refusal.first, refusal.count) for refusal in plan.refusals] == [(1, 1), (2, 2)]


def test_overtaking_can_be_forbidden() -> None:
    view = view_of("n1:4", runs(9, "n1:0"), waits(1, 4, waited_s=1.0), waits(2))
    assert placed(decide(view, Policy(overtake_s=0.0), NOW_S)) == {}
