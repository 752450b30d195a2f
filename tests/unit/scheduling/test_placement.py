"""Where a job goes: best fit, ties, shares of a GPU, models, labels, nodes to avoid, islands, cores and memory."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from shunter.domain.reason import NeverFits, NotEnoughFree
from shunter.scheduling.policy import Policy
from tests.unit.scheduling.cluster import NOW_S, PLAIN, Waiting, decide_on, nodes_taken, placed, refused, runs, waits

RANDOM = replace(PLAIN, ties="random", seed=1)
TOPOLOGY = replace(PLAIN, placement=("topology", "best-fit"))
FGD = replace(PLAIN, placement=("fragmentation", "best-fit"))


def where(nodes: str, *jobs: Waiting, policy: Policy = PLAIN) -> str:
    """Return where the job with the highest number goes."""
    found = placed(decide_on(nodes, *jobs, policy=policy))
    return found.get(max(job.id for job, _ in jobs), "")


# best fit and ties


def test_best_fit_picks_the_fullest_node_that_still_holds_the_job() -> None:
    jobs = runs(1, "n1:0,1"), runs(2, "n2:0,1,2,3,4"), runs(3, "n3:0"), waits(4, 3)
    assert where("n1-3:8", *jobs) == "n2:5,6,7"


def test_a_node_too_full_is_not_a_best_fit() -> None:
    assert where("n1:8 n2:8", runs(1, "n1:0,1,2,3,4,5"), waits(2, 3)) == "n2:0,1,2"


def test_small_jobs_leave_a_whole_node_to_a_wide_one() -> None:
    plan = decide_on("n1:8 n2:8", waits(1, 1), waits(2, 1), waits(3, 8))
    assert placed(plan) == {1: "n1:0", 2: "n1:1", 3: "n2:0,1,2,3,4,5,6,7"}


def test_a_best_fit_counts_parts_of_devices() -> None:
    assert where("n1:2 n2:2", runs(1, "n1:0", 0.25), runs(2, "n2:0", 0.5), waits(3, 1)) == "n2:1"


def test_equal_nodes_are_taken_in_the_order_in_which_they_joined_and_then_by_name() -> None:
    jobs = [waits(number, 4) for number in (1, 2, 3, 4)]
    plan = decide_on("n1:4^7 n2:4^5 n4:4^5 n3:4^5", *jobs)
    assert nodes_taken(plan) == {1: "n2", 2: "n3", 3: "n4", 4: "n1"}


def test_first_fit_takes_the_node_that_joined_first_however_empty() -> None:
    first_fit = replace(PLAIN, placement=("first-fit",))
    assert where("n1:8 n2:8", runs(1, "n2:0"), waits(2), policy=first_fit) == "n1:0"


def test_without_any_part_it_is_the_first_too() -> None:
    assert where("n1:8 n2:8", runs(1, "n2:0"), waits(2), policy=replace(PLAIN, placement=())) == "n1:0"


def test_random_ties_differ_by_job_and_seed_and_yet_repeat() -> None:
    jobs = [waits(number, 1) for number in range(1, 9)]
    nodes = "n1-9:1"
    assert nodes_taken(decide_on(nodes, *jobs, policy=RANDOM)) == nodes_taken(decide_on(nodes, *jobs, policy=RANDOM))
    ones = {where("n1-9:1", waits(number), policy=RANDOM) for number in range(1, 9)}
    assert len(ones) > 2, "each job draws its own node"
    seeds = {where("n1-9:1", waits(1), policy=replace(RANDOM, seed=seed)) for seed in range(8)}
    assert len(seeds) > 2, "each seed draws another node"


def test_random_ties_do_not_outweigh_the_fit() -> None:
    for number in range(1, 9):
        assert where("n1-8:4 n9:2", waits(number, 2), policy=RANDOM) == "n9:0,1"


def test_the_lowest_free_devices_are_given() -> None:
    assert where("n1:6", runs(1, "n1:0,2"), waits(2, 3)) == "n1:1,3,4"


def test_a_job_without_gpus_goes_to_the_node_with_the_fewest_free_ones() -> None:
    assert where("n1:8 n2:2", waits(1, 0, cpus=4)) == "n2:"


# health


def test_an_unhealthy_gpu_is_not_given() -> None:
    plan = decide_on("n1:4", waits(1, 2), waits(2, 2), sick="n1:0,2")
    assert placed(plan) == {1: "n1:1,3"}
    assert refused(plan) == {2: NotEnoughFree(1, 2, 0, 0, 0)}


def test_a_gpu_that_fell_ill_under_a_job_is_neither_free_nor_counted_twice() -> None:
    assert placed(decide_on("n1:2", runs(1, "n1:0"), waits(2), waits(3), sick="n1:0")) == {2: "n1:1"}


def test_no_share_is_cut_from_a_gpu_that_fell_ill_under_another_share() -> None:
    assert placed(decide_on("n1:2", runs(1, "n1:0", 0.25), waits(2, 0.25), sick="n1:0")) == {2: "n1:1"}


@pytest.mark.parametrize("out", ["cordoned", "silent"])
def test_a_cordoned_or_silent_node_gets_nothing(out: str) -> None:
    plan = decide_on("n1:8 n2:1", waits(1), waits(2), **{out: "n1"})  # type: ignore[arg-type]
    assert placed(plan) == {1: "n2:0"}


# cores and memory


def test_cores_are_respected_though_gpus_are_free() -> None:
    plan = decide_on("n1:8", runs(1, "n1:0", cpus=40), waits(2, cpus=20), waits(3, cpus=20))
    assert placed(plan) == {2: "n1:1"}
    assert refused(plan) == {3: NotEnoughFree(1, 1, 0, 6, 6)}


def test_memory_is_respected_though_gpus_are_free() -> None:
    jobs = runs(1, "n1:0", memory_mib=500), waits(2, memory_mib=400), waits(3, memory_mib=400)
    assert placed(decide_on("n1:8", *jobs, memory_mib=1_000)) == {2: "n1:1"}


def test_cores_and_memory_choose_another_node() -> None:
    assert where("n1:2 n2:8", runs(1, "n1:0", cpus=60), waits(2, cpus=8)) == "n2:0"


# shares of a GPU


def test_shares_are_packed_on_one_device() -> None:
    plan = decide_on("n1:2", *(waits(number, 0.25) for number in (1, 2, 3, 4, 5)))
    assert placed(plan) == {1: "n1:0", 2: "n1:0", 3: "n1:0", 4: "n1:0", 5: "n1:1"}


def test_a_share_goes_to_the_device_that_it_fits_most_tightly() -> None:
    assert where("n1:3", runs(1, "n1:0", 0.25), runs(2, "n1:1", 0.5), waits(3, 0.5)) == "n1:1"
    assert where("n1:3", runs(1, "n1:0", 0.25), runs(2, "n1:1", 0.5), waits(3, 0.7)) == "n1:0"


def test_no_device_gives_more_than_a_whole() -> None:
    plan = decide_on("n1:1", runs(1, "n1:0", 0.7), waits(2, 0.4), waits(3, 0.3, limit=1))
    assert placed(plan) == {3: "n1:0"}


def test_a_device_that_is_partly_taken_is_not_given_whole() -> None:
    assert placed(decide_on("n1:2", runs(1, "n1:0", 0.001), waits(2, 2), waits(3, 1, limit=1))) == {3: "n1:1"}


def test_a_share_is_cut_in_thousandths() -> None:
    plan = decide_on("n1:1", runs(1, "n1:0", 0.998), waits(2, 0.001), waits(3, 0.001), waits(4, 0.001))
    assert list(placed(plan)) == [2, 3]


# models, labels and nodes to avoid

MODELS = "n1:8*NVIDIA-H100-80GB n2:8*NVIDIA-A100 n3:8*L40S"


@pytest.mark.parametrize(
    ("models", "node"), [("a100", "n2"), ("H100", "n1"), ("L40S A100", "n2"), ("L40S", "n3"), ("A10", ""), ("", "n1")]
)
def test_a_model_is_matched_by_its_words_in_either_case(models: str, node: str) -> None:
    assert where(MODELS, waits(1, models=models)).partition(":")[0] == node


def test_a_model_that_is_not_here_never_fits() -> None:
    assert refused(decide_on(MODELS, waits(1, models="B200"))) == {1: NeverFits(1, 1, 0)}


def test_all_labels_must_hold() -> None:
    nodes = "n1:1 n2:1#zone=a n3:2#zone=a#disk=nvme n4:1#zone=b"
    assert where(nodes, waits(1, labels="zone=a")) == "n2:0"
    assert where(nodes, waits(1, labels="zone=a disk=nvme")) == "n3:0"
    assert where(nodes, waits(1, labels="zone=c")) == ""


def test_nodes_to_avoid_are_avoided_at_any_price() -> None:
    plan = decide_on("n1:8 n2:1", waits(1, 4, avoid="n1 n9"))
    assert refused(plan) == {1: NeverFits(1, 4, 0)}
    assert where("n1:8 n2:1", runs(1, "n2:0"), waits(2, avoid="n1")) == ""


def test_invariant_8_a_job_does_not_return_to_the_node_that_just_failed_it() -> None:
    assert where("n1:8 n2:8", runs(1, "n1:0,1"), waits(2, failed_on="n1")) == "n2:0"


def test_invariant_8_it_waits_for_another_node_that_is_full_rather_than_return() -> None:
    assert where("n1:8 n2:1", runs(1, "n2:0"), waits(2, failed_on="n1")) == ""


def test_it_returns_after_a_minute_in_which_no_other_took_it() -> None:
    jobs = runs(1, "n2:0"), waits(2, failed_on="n1", waited=59.9), waits(3, failed_on="n1", waited=60.0)
    assert placed(decide_on("n1:8 n2:1", *jobs)) == {3: "n1:0"}
    retry = waits(2, failed_on="n1", waited=100.0, not_before_s=NOW_S - 59.9)
    assert placed(decide_on("n1:8 n2:1", jobs[0], retry)) == {}, "the minute begins when the retry is due"


def test_it_returns_when_no_other_node_could_ever_hold_it() -> None:
    assert where("n1:8 n2:1", waits(1, 4, failed_on="n1")) == "n1:0,1,2,3"


def test_it_returns_when_its_wishes_leave_no_other_node() -> None:
    assert where("n1:8*A100 n2:8", waits(1, models="A100", failed_on="n1")) == "n1:0"
    assert where("n1:8 n2:8", waits(1, avoid="n2", failed_on="n1")) == "n1:0"


@pytest.mark.parametrize("out", ["cordoned", "silent"])
def test_it_returns_when_every_other_node_takes_no_work(out: str) -> None:
    assert placed(decide_on("n1:8 n2:8", waits(1, failed_on="n1"), **{out: "n2"})) == {1: "n1:0"}  # type: ignore[arg-type]


def test_it_returns_to_the_only_node() -> None:
    assert where("n1:1", waits(1, failed_on="n1")) == "n1:0"


def test_a_gang_returns_when_the_other_racks_are_too_small() -> None:
    assert where("n1-2:8/r1 n3:8/r2", waits(1, 8, 2, within="rack", failed_on="n1")) != ""


def test_one_job_s_past_is_not_another_s() -> None:
    assert placed(decide_on("n1:1 n2:1", waits(1, failed_on="n1"), waits(2))) == {1: "n2:0", 2: "n1:0"}


# islands


def test_a_job_goes_into_one_island_where_it_can() -> None:
    jobs = runs(1, "n1:0,1,4,5"), waits(2, 4)
    assert where("n1:4+4 n2:4+4", *jobs, policy=TOPOLOGY) == "n2:0,1,2,3"
    assert where("n1:4+4 n2:4+4", *jobs, policy=PLAIN) == "n1:2,3,6,7"


def test_inside_a_node_it_takes_the_island_that_it_fits_most_tightly() -> None:
    assert where("n1:4+4", runs(1, "n1:4,5"), waits(2, 2)) == "n1:6,7"
    assert where("n1:4+4", runs(1, "n1:4,5"), waits(2, 3)) == "n1:0,1,2"


def test_a_job_wider_than_an_island_reaches_over_as_few_as_can_be() -> None:
    assert where("n1:2+4+2", waits(1, 5)) == "n1:0,2,3,4,5"


def test_where_it_must_reach_over_islands_it_does_so_least() -> None:
    jobs = runs(1, "n1:0,1"), runs(2, "n2:0"), waits(3, 4)
    assert where("n1:3+3 n2:2+2+2", *jobs, policy=TOPOLOGY) == "n1:2,3,4,5"


def test_within_an_island_is_a_condition() -> None:
    assert where("n1:4+4", runs(1, "n1:0,4"), waits(2, 4, within="island")) == ""
    assert where("n1:4+4 n2:8", runs(1, "n1:0,4"), waits(2, 4, within="island")) == "n2:0,1,2,3"
    assert refused(decide_on("n1:4+4", waits(1, 5, within="island"))) == {1: NeverFits(1, 5, 0)}


# fragmentation


def test_fragmentation_keeps_whole_nodes_whole_for_those_who_need_them() -> None:
    """Best fit alone would take the smaller node, which wide jobs need whole."""
    wide = [waits(number, 4, priority="low") for number in (5, 6, 7)]
    nodes, busy = "n1:8 n2:4", runs(1, "n1:0,1,2")
    assert nodes_taken(decide_on(nodes, busy, waits(2), *wide, policy=PLAIN))[2] == "n2"
    assert nodes_taken(decide_on(nodes, busy, waits(2), *wide, policy=FGD))[2] == "n1"


def test_fragmentation_keeps_devices_whole_for_those_who_need_them() -> None:
    jobs = (
        runs(1, "n1:0", 0.5),
        runs(2, "n2:0"),
        waits(3, 0.5),
        *(waits(number, 1, priority="low") for number in (4, 5)),
    )
    assert placed(decide_on("n1:2 n2:2", *jobs, policy=FGD))[3] == "n1:0"


def test_fragmentation_prefers_nodes_that_are_of_no_use_to_others() -> None:
    """What is free on n1 cannot be used by anyone who wants an A100, so nothing is lost there."""
    wanting = [waits(number, 1, models="A100", priority="low") for number in (5, 6, 7)]
    assert where("n1:4 n2:4*A100", waits(1), policy=FGD) == "n1:0"
    assert nodes_taken(decide_on("n2:4 n1:4*A100", waits(1), *wanting, policy=FGD))[1] == "n2"
