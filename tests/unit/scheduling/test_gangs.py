"""Gangs: whole or not at all, one member on a node, in the tightest rack, with an odd last member."""

from __future__ import annotations

from msgspec.structs import replace

from shunter.domain.reason import NeverFits, NotEnoughFree
from shunter.scheduling.policy import Policy
from tests.unit.scheduling.cluster import PLAIN, Waiting, decide_on, nodes_taken, placed, refused, runs, waits

TOPOLOGY = replace(PLAIN, placement=("topology", "best-fit"))


def taken(nodes: str, *jobs: Waiting, policy: Policy = TOPOLOGY) -> str:
    """Return the nodes of the job with the highest number."""
    return nodes_taken(decide_on(nodes, *jobs, policy=policy)).get(max(job.id for job, _ in jobs), "")


def test_invariant_6_a_gang_gets_a_share_on_each_of_as_many_nodes_fullest_first() -> None:
    plan = decide_on("n1-3:4", runs(1, "n3:0"), waits(2, 2, 2))
    assert placed(plan) == {2: "n3:1,2 n1:0,1"}


def test_invariant_6_a_gang_that_does_not_fit_whole_takes_nothing() -> None:
    plan = decide_on("n1-2:4", runs(1, "n2:0"), waits(2, 4, 2), waits(3, 3, limit=1))
    assert placed(plan) == {3: "n2:1,2,3"}


def test_two_members_never_share_a_node_though_it_would_hold_both() -> None:
    assert placed(decide_on("n1:8", waits(1, 2, 2))) == {}


def test_two_gangs_do_not_take_half_of_the_cluster_each() -> None:
    plan = decide_on("n1-3:4", waits(1, 4, 2), waits(2, 4, 2))
    assert placed(plan) == {1: "n1:0,1,2,3 n2:0,1,2,3"}


def test_a_gang_without_gpus_is_spread_as_well() -> None:
    assert placed(decide_on("n1-3:1", waits(1, 0, 3, cpus=64))) == {1: "n1: n2: n3:"}


def test_a_gang_avoids_the_nodes_of_its_last_attempt_when_enough_others_are_there() -> None:
    assert taken("n1-4:4", waits(1, 4, 2, failed_on="n1 n2")) == "n3 n4"
    assert taken("n1-3:4", waits(1, 4, 2, failed_on="n1 n2")) == "n1 n2"


# racks


def test_a_gang_is_gathered_in_the_rack_where_it_leaves_the_fewest_nodes() -> None:
    assert taken("n1-3:1/r1 n4-5:1/r2 n6:1/r3", waits(1, 1, 2)) == "n4 n5"


def test_racks_that_are_equally_tight_are_taken_by_name() -> None:
    assert taken("n1-2:1/r2 n3-4:1/r1", waits(1, 1, 2)) == "n3 n4"


def test_a_gang_too_wide_for_a_rack_takes_as_few_as_can_be() -> None:
    assert taken("n1:1/r1 n2-3:1/r2 n4-6:1/r3", waits(1, 1, 5)) == "n4 n5 n6 n2 n3"


def test_one_job_is_no_gang_and_racks_do_not_matter() -> None:
    assert taken("n1-3:1/r1 n4:1/r2", waits(1)) == "n1"


def test_without_the_part_racks_are_not_looked_at() -> None:
    assert taken("n1:1/r1 n2-3:1/r2", waits(1, 1, 2), policy=PLAIN) == "n1 n2"


def test_within_a_rack_is_a_condition() -> None:
    assert taken("n1:1/r1 n2:1/r2 n3:1/r3", waits(1, 1, 2, within="rack")) == ""
    assert taken("n1:1/r1 n2-3:1/r2", waits(1, 1, 2, within="rack"), policy=PLAIN) == "n2 n3"


def test_within_a_rack_the_tightest_one_is_taken() -> None:
    assert taken("n1-3:1/r1 n4-5:1/r2", waits(1, 1, 2, within="rack")) == "n4 n5"


def test_within_a_rack_only_what_is_free_counts() -> None:
    plan = decide_on("n1-2:1/r1 n3-4:1/r2", runs(1, "n1:0"), runs(2, "n3:0"), waits(3, 1, 2, within="rack"))
    assert refused(plan) == {3: NotEnoughFree(2, 1, 2, 1, 2)}


def test_within_a_rack_that_is_too_small_never_fits() -> None:
    assert refused(decide_on("n1-2:1/r1 n3:1/r2", waits(1, 1, 3, within="rack"))) == {1: NeverFits(3, 1, 2)}


# the odd last member


def test_the_last_member_takes_what_is_left_of_the_total() -> None:
    assert placed(decide_on("n1:8 n2:8", waits(1, 8, 2, last_gpus=3))) == {1: "n1:0,1,2,3,4,5,6,7 n2:0,1,2"}


def test_the_last_member_goes_to_the_node_that_it_fits_best() -> None:
    assert taken("n1-3:8 n4:4", waits(1, 8, 3, last_gpus=2)) == "n1 n2 n4"


def test_the_last_member_does_not_share_a_node_with_another() -> None:
    assert taken("n1:8", waits(1, 4, 2, last_gpus=1)) == ""
    assert taken("n1:8 n2:1", waits(1, 4, 2, last_gpus=1)) == "n1 n2"


def test_a_gang_whose_last_member_finds_no_node_takes_nothing() -> None:
    plan = decide_on("n1:4 n2:4", runs(1, "n2:0,1,2"), waits(2, 4, 2, last_gpus=2))
    assert placed(plan) == {}
    assert refused(plan) == {2: NotEnoughFree(2, 4, 1, 4, 5)}


def test_a_gang_whose_last_member_has_no_node_never_fits() -> None:
    assert refused(decide_on("n1:8 n2:1", waits(1, 8, 2, last_gpus=2))) == {1: NeverFits(2, 8, 1)}
