"""What may start behind a blocked job: reservations, short jobs, jobs beside, nodes as good, depth, estimates."""

from __future__ import annotations

from msgspec.structs import replace

from shunter.domain.job import Priority
from shunter.domain.reason import HeldBack, NotEnoughFree
from shunter.scheduling.plan import Plan
from shunter.scheduling.policy import Backfill, Route
from tests.unit.scheduling.cluster import PLAIN, Waiting, decide_on, nodes_taken, placed, refused, reserved, runs, waits

DEPTHS = {depth: replace(PLAIN, backfill=Backfill(depth=depth, default_time_s=86_400.0)) for depth in (0, 1, 2, 3)}
TIGHT = replace(PLAIN, backfill=Backfill(depth=1, tight=True))
ONE, TWO = DEPTHS[1], DEPTHS[2]


def started(plan: Plan) -> list[int]:
    return list(placed(plan))


# the reservation


def test_a_blocked_job_is_kept_the_node_that_has_room_soonest_from_when_it_has() -> None:
    busy = runs(8, "n1:0", ran=10, limit=100), runs(9, "n2:0", ran=10, limit=40)
    plan = decide_on("n1-2:4", *busy, waits(1, 4), waits(2, limit=1_000))
    assert reserved(plan) == {1: (30.0, "n2")}
    assert nodes_taken(plan) == {2: "n1"}


def test_no_reservation_is_worked_out_while_nothing_behind_could_start() -> None:
    plan = decide_on("n1:4", runs(9, "n1:0", limit=100), waits(1, 4), waits(2, 4))
    assert reserved(plan) == {}


def test_a_gang_is_kept_all_of_its_nodes_until_the_last_is_free() -> None:
    busy = runs(7, "n1:0", ran=0, limit=30), runs(8, "n2:0", ran=0, limit=99), runs(9, "n3:0", ran=0, limit=20)
    plan = decide_on("n1-3:4", *busy, waits(1, 4, 2), waits(2, limit=1_000))
    assert reserved(plan) == {1: (30.0, "n3 n1")}
    assert nodes_taken(plan) == {2: "n2"}


def test_an_odd_last_member_is_kept_a_node_that_is_big_enough_for_it() -> None:
    busy = runs(8, "n1:0", ran=0, limit=30), runs(9, "n2:0,1", ran=0, limit=99)
    plan = decide_on("n1:4 n2:4 n3:2", *busy, waits(1, 4, 2, last_gpus=2), waits(2, limit=1_000))
    assert reserved(plan) == {1: (30.0, "n1 n2")}
    assert nodes_taken(plan) == {2: "n3"}


def test_within_a_rack_the_reservation_is_in_one_rack() -> None:
    busy = runs(7, "n1:0", ran=0, limit=10), runs(8, "n3:0", ran=0, limit=20), runs(9, "n4:0", ran=0, limit=30)
    plan = decide_on("n1:1/r1 n2:2/r1 n3:1/r2 n4:1/r2", *busy, waits(1, 1, 2, within="rack"), waits(2, limit=15))
    assert reserved(plan) == {1: (10.0, "n2 n1")}
    assert nodes_taken(plan) == {2: "n2"}


def test_the_reservation_keeps_off_nodes_to_avoid() -> None:
    busy = runs(8, "n1:0", ran=0, limit=10), runs(9, "n2:0", ran=0, limit=99)
    plan = decide_on("n1-2:4", *busy, waits(1, 4, avoid="n1"), waits(2, 3, limit=1_000))
    assert reserved(plan) == {1: (99.0, "n2")}
    assert nodes_taken(plan) == {2: "n1"}


def test_what_started_in_the_same_pass_counts() -> None:
    plan = decide_on("n1:4", waits(1, 1, limit=50), waits(2, 4), waits(3, 1, limit=60), waits(4, 1, limit=50))
    assert started(plan) == [1, 4]
    assert reserved(plan) == {2: (50.0, "n1")}


def test_a_job_that_can_never_fit_is_kept_nothing() -> None:
    plan = decide_on("n1:4", waits(1, 8), waits(2))
    assert (placed(plan), reserved(plan)) == ({2: "n1:0"}, {})


# short jobs


def test_what_ends_in_time_passes_and_what_does_not_waits() -> None:
    plan = decide_on("n1:4", runs(9, "n1:0", ran=40, limit=100), waits(1, 4), waits(2, limit=60), waits(3, limit=61))
    assert placed(plan) == {2: "n1:1"}
    assert refused(plan) == {1: NotEnoughFree(1, 4, 0, 3, 3), 3: HeldBack(1)}


def test_a_shorter_job_of_the_same_shape_passes_a_longer_one_that_is_held_back() -> None:
    jobs = waits(1, 4), waits(2, limit=99), waits(3, limit=60), waits(4, limit=80), waits(5, limit=10)
    plan = decide_on("n1:4", runs(9, "n1:0", ran=40, limit=100), *jobs)
    assert placed(plan) == {3: "n1:1", 5: "n1:2"}
    assert [(refusal.first, refusal.count) for refusal in plan.refusals] == [(1, 1), (2, 2)]


def test_what_is_expected_counts_only_where_the_policy_believes_it() -> None:
    jobs = runs(9, "n1:0", ran=0, limit=100, expect=50.0), waits(1, 4), waits(2, limit=100, expect=40.0)
    assert reserved(decide_on("n1:4", *jobs)) == {1: (100.0, "n1")}
    plan = decide_on("n1:4", *jobs, policy=replace(ONE, estimate="expected"))
    assert reserved(plan) == {1: (50.0, "n1")}
    assert started(plan) == [2]


def test_a_run_that_outlives_its_estimate_is_thought_to_run_twice_as_long() -> None:
    for ran, left in ((99, 1.0), (100, 100.0), (150, 50.0), (200, 200.0), (399, 1.0), (400, 400.0)):
        plan = decide_on("n1:4", runs(9, "n1:0", ran=ran, limit=100), waits(1, 4), waits(2, limit=1))
        assert reserved(plan) == {1: (left, "n1")}, ran


def test_a_whole_node_without_a_limit_is_thought_to_be_held_as_long_as_the_policy_says() -> None:
    hour = replace(ONE, backfill=Backfill(depth=1, default_time_s=3_600.0))
    busy = runs(8, "n1:0,1,2,3", ran=600), runs(9, "n2:0", ran=0, limit=5_000)
    plan = decide_on("n1-2:4", *busy, waits(1, 4), waits(2, limit=10_000), policy=hour)
    assert (reserved(plan), nodes_taken(plan)) == ({1: (3_000.0, "n1")}, {2: "n2"})


# beside, and elsewhere


def test_a_long_job_starts_beside_what_the_first_will_need() -> None:
    plan = decide_on("n1:4", runs(9, "n1:0,1", ran=0, limit=100), waits(1, 3), waits(2, limit=500), waits(3, limit=500))
    assert placed(plan) == {2: "n1:2"}
    assert refused(plan)[3] == HeldBack(1)


def test_beside_means_cores_and_memory_as_well() -> None:
    busy = runs(9, "n1:0,1", ran=0, limit=100)
    plan = decide_on("n1:4", busy, waits(1, 3, cpus=60), waits(2, cpus=5, limit=500), waits(3, cpus=4, limit=500))
    assert started(plan) == [3]
    plan = decide_on("n1:4", busy, waits(1, 3, memory_mib=60_000), waits(2, memory_mib=6_000, limit=500))
    assert started(plan) == []


def test_a_job_without_gpus_starts_beside_one_that_leaves_cores() -> None:
    plan = decide_on("n1:4", runs(9, "n1:0", limit=100), waits(1, 4, cpus=8), waits(2, 0, cpus=56), waits(3, 0, cpus=1))
    assert started(plan) == [2]


def test_beside_a_job_that_needs_an_island_another_must_leave_it_the_island() -> None:
    """At the time of the reservation 7 devices are idle, but the 3 left over are not any 3."""
    busy = runs(8, "n1:3", ran=0, limit=100), runs(9, "n1:7", ran=0, limit=900)
    plan = decide_on("n1:4+4", *busy, waits(1, 4, within="island"), waits(2, 3, limit=5_000))
    assert placed(plan) in ({}, {2: "n1:4,5,6"})


def test_an_idle_node_that_is_not_needed_is_used() -> None:
    busy = runs(9, "n1:0", limit=100)
    plan = decide_on("n1:4 n2:2", busy, waits(1, 4), *(waits(number, limit=9_999) for number in (2, 3, 4)))
    assert nodes_taken(plan) == {2: "n2", 3: "n2"}
    assert refused(plan)[4] == HeldBack(1)


def test_a_job_whose_best_place_is_kept_takes_a_worse_one() -> None:
    plan = decide_on("n1:4 n2:8*A100", runs(9, "n1:0", limit=100), waits(1, 4, models="H100"), waits(2, 3, limit=9_999))
    assert nodes_taken(plan) == {2: "n2"}


def test_tight_does_not_try_worse_places() -> None:
    jobs = runs(9, "n1:0", limit=100), waits(1, 4, models="H100"), waits(2, 3, limit=9_999), waits(3, 3, limit=90)
    plan = decide_on("n1:4 n2:8*A100", *jobs, policy=TIGHT)
    assert nodes_taken(plan) == {3: "n1"}
    assert refused(plan)[2] == HeldBack(1)


def test_while_another_node_is_as_good_the_first_can_be_taken() -> None:
    busy = runs(8, "n1:0", ran=0, limit=100), runs(9, "n2:0", ran=0, limit=100)
    plan = decide_on("n1-2:4", *busy, waits(1, 4), waits(2, 2, limit=500), waits(3, 2, limit=500))
    assert placed(plan) == {2: "n1:1,2"}
    assert reserved(plan) == {1: (100.0, "n2")}
    assert refused(plan)[3] == HeldBack(1)


def test_a_node_as_good_is_counted_once_for_two_reservations() -> None:
    """Both reservations are on n1 and could move to n2, but not both of them."""
    busy = (
        runs(7, "n1:0,1,2,3", ran=0, limit=10),
        runs(8, "n2:0", ran=0, limit=10),
        runs(9, "n2:1,2,3", ran=0, limit=60),
    )
    jobs = waits(1, 1, cpus=40, limit=50), waits(2, 4, cpus=40, limit=50), waits(3, 0, cpus=60, limit=999)
    plan = decide_on("n1-2:4", *busy, *jobs, policy=TWO)
    assert reserved(plan) == {1: (10.0, "n1"), 2: (60.0, "n1")}
    assert placed(plan) == {3: "n2:"}


def test_a_gang_moves_to_another_node_as_good_but_one_within_a_rack_does_not() -> None:
    busy = [runs(number, f"n{number - 6}:0", ran=0, limit=100) for number in (7, 8, 9)]
    wide = waits(2, 2, limit=500)
    plan = decide_on("n1-3:4/r1", *busy, waits(1, 4, 2), wide)
    assert (nodes_taken(plan), reserved(plan)) == ({2: "n1"}, {1: (100.0, "n2 n3")})
    assert started(decide_on("n1-2:4/r1 n3:2/r2", *busy, waits(1, 4, 2, within="rack"), wide)) == []


def test_behind_a_blocked_job_a_gang_must_not_take_more_nodes_than_can_be_spared() -> None:
    busy = [runs(number, f"n{number - 6}:0", ran=0, limit=100) for number in (7, 8, 9)]
    assert started(decide_on("n1-3:4", *busy, waits(1, 4, 2), waits(2, 2, 2, limit=500))) == []
    assert started(decide_on("n1-3:4", *busy, waits(1, 4), waits(2, 2, 2, limit=500))) == [2]


# classes, depth, pools


def test_a_higher_class_is_not_held_back_by_a_lower_one() -> None:
    plan = decide_on("n1:4", runs(9, "n1:0", limit=100), waits(1, 4), waits(2, priority="high"))
    assert placed(plan) == {2: "n1:1"}


def test_only_as_many_as_the_depth_says_get_a_reservation() -> None:
    busy = [runs(number, f"n{number - 6}:0", ran=0, limit=100 * number) for number in (7, 8, 9)]
    jobs = [waits(number, 4, limit=50) for number in (1, 2, 3)]
    for depth, kept in {1: [1], 2: [1, 2], 3: [1, 2, 3]}.items():
        plan = decide_on("n1-3:4", *busy, *_other_shapes(jobs), waits(4, limit=1), policy=DEPTHS[depth])
        assert list(reserved(plan)) == kept


def _other_shapes(jobs: list[Waiting]) -> list[Waiting]:
    """Jobs that ask for the same are refused together, by the first of them."""
    return [(replace(job, request=replace(job.request, cpus=job.id)), phase) for job, phase in jobs]


def test_those_of_one_shape_are_refused_together_and_kept_one_place() -> None:
    plan = decide_on("n1:4", runs(9, "n1:0", limit=100), waits(1, 4), waits(2, 4), waits(3, limit=1), policy=TWO)
    assert list(reserved(plan)) == [1]


def test_depth_0_lets_everything_pass() -> None:
    plan = decide_on("n1:4", runs(9, "n1:0", limit=100), waits(1, 4), waits(2), policy=DEPTHS[0])
    assert (started(plan), reserved(plan)) == ([2], {})


def test_a_second_reservation_comes_after_the_first_where_both_want_the_same_node() -> None:
    jobs = waits(1, 4, limit=30), waits(2, 3, limit=30), waits(3, limit=1)
    plan = decide_on("n1:4", runs(9, "n1:0,1", ran=0, limit=100), *jobs, policy=TWO)
    assert reserved(plan) == {1: (100.0, "n1"), 2: (130.0, "n1")}


def test_who_would_delay_the_second_reservation_is_held_back_for_it() -> None:
    busy = runs(8, "n1:0", ran=0, limit=100), runs(9, "n2:0,1", ran=0, limit=200)
    jobs = waits(1, 4), waits(2, 3), waits(3, 2, limit=500)
    assert nodes_taken(decide_on("n1-2:4", *busy, *jobs, policy=ONE)) == {3: "n2"}
    plan = decide_on("n1-2:4", *busy, *jobs, policy=TWO)
    assert (placed(plan), refused(plan)[3]) == ({}, HeldBack(2))


def test_each_home_has_a_line_of_its_own() -> None:
    classes = {Priority.HIGH: Route("gold"), Priority.LOW: Route("tin")}
    pooled = replace(ONE, classes=classes, share_all_below=0)
    busy = runs(8, "n1:0", ran=0, limit=100), runs(9, "n2:0", ran=0, limit=200)
    jobs = waits(1, 4, priority="high"), waits(2, 4, priority="low"), waits(3, priority="low", limit=150)
    long = waits(4, priority="low", limit=300), waits(5, priority="high", limit=999)
    plan = decide_on("n1:4@gold n2:4@tin", *busy, *jobs, *long, policy=pooled)
    assert reserved(plan) == {1: (100.0, "n1"), 2: (200.0, "n2")}
    assert started(plan) == [3]
    assert (refused(plan)[4], refused(plan)[5]) == (HeldBack(2), HeldBack(1))
    assert reserved(decide_on("n1:4@gold n2:4@tin", *busy, *jobs, policy=pooled)) == {
        2: (200.0, "n2")
    }  # who else cares


def test_a_borrower_must_not_delay_the_pool_s_own_class() -> None:
    classes = {Priority.HIGH: Route("gold"), Priority.LOW: Route("tin", ("gold",))}
    pooled = replace(ONE, classes=classes, share_all_below=0)
    jobs = runs(9, "n1:0", ran=0, limit=100), waits(1, 4, priority="high")
    low = [waits(number, 2, priority="low", limit=limit) for number, limit in ((2, 999), (3, 99))]
    assert started(decide_on("n1:4@gold n2:1@tin", *jobs, *low, policy=pooled)) == [3]


# shares


def test_a_share_starts_on_a_device_that_the_blocked_job_cannot_use_anyway() -> None:
    busy = runs(8, "n1:0", share=0.5), runs(9, "n1:1", ran=0, limit=100)
    assert placed(decide_on("n1:2", *busy, waits(1, 1), waits(2, 0.25))) == {2: "n1:0"}


def test_a_share_keeps_off_a_device_that_will_be_whole_when_the_blocked_job_needs_it() -> None:
    busy = runs(8, "n1:0", share=0.5, ran=0, limit=50), runs(9, "n1:1", ran=0, limit=100)
    assert placed(decide_on("n1:2", *busy, waits(1, 2), waits(2, 0.25))) == {}
    assert placed(decide_on("n1:2", *busy, waits(1, 2), waits(2, 0.25, limit=100))) == {2: "n1:0"}


# what holds one back holds all of its shape back


def test_what_is_held_back_speaks_for_longer_jobs_of_other_owners_and_not_for_shorter_ones() -> None:
    busy, wide = runs(9, "n1:0,1,2", ran=0, limit=100, owner="zoe"), waits(1, 4)
    jobs = waits(2, limit=200), waits(3, limit=300, owner="bob"), waits(4, limit=100, owner="cy")
    fair = replace(ONE, order=("fair-share", "age"))
    assert nodes_taken(decide_on("n1:4", busy, wide, *jobs, policy=fair)) == {4: "n1"}


def test_a_job_of_unknown_length_that_takes_whole_nodes_is_not_taken_for_a_long_one() -> None:
    busy, wide = runs(9, "n2:0", ran=0, limit=1_000), waits(1, 4, 2)
    jobs = waits(2, 4, limit=2_000), waits(3, 4, owner="bob")
    policy = replace(ONE, backfill=Backfill(depth=1, default_time_s=600.0))
    assert nodes_taken(decide_on("n1-2:4", busy, wide, *jobs, policy=policy)) == {3: "n1"}
