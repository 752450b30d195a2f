"""Idle nodes stay whole, for a while, for jobs before that need whole ones."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from shunter.domain.reason import HeldBack
from tests.unit.scheduling.cluster import NOW_S, PLAIN, Waiting, decide_on, nodes_taken, refused, runs, waits

HOUR_S = 3_600.0
PATIENT = replace(PLAIN, keep_whole_s=HOUR_S)
GANG = waits(1, 4, 3)
"""It needs three nodes where two are idle, and these are kept whole for it."""
BUSY = runs(9, "n1:0,1,2,3", ran=0, limit=100)


def taken(*jobs: Waiting, nodes: str = "n1-3:4") -> dict[int, str]:
    return nodes_taken(decide_on(nodes, BUSY, *jobs, policy=PATIENT))


def test_a_job_that_takes_a_part_of_a_node_does_not_break_an_idle_one() -> None:
    plan = decide_on("n1-3:4", BUSY, GANG, waits(2, 1, limit=50, waited=600), policy=PATIENT)
    assert refused(plan)[2] == HeldBack(1)
    assert plan.again_s == NOW_S + HOUR_S - 600


def test_it_does_once_its_patience_has_ended() -> None:
    assert taken(GANG, waits(2, 1, limit=50, waited=HOUR_S)) == {2: "n2"}


def test_the_first_patience_to_end_is_when_to_decide_again() -> None:
    jobs = waits(2, 1, limit=50, waited=600), waits(3, 2, limit=50, waited=900), waits(4, 3, limit=50, waited=1e6)
    plan = decide_on("n1-3:4", BUSY, GANG, *jobs, policy=PATIENT)
    assert (nodes_taken(plan), plan.again_s) == ({4: "n2"}, NOW_S + HOUR_S - 900)


def test_a_job_that_takes_a_whole_node_is_not_meant() -> None:
    assert taken(GANG, waits(2, 4, limit=50)) == {2: "n2"}


def test_a_node_that_is_in_use_already_is_not_idle() -> None:
    assert taken(runs(8, "n2:0", limit=100), GANG, waits(2, 1, limit=50)) == {2: "n2"}


@pytest.mark.parametrize("gpus", [0.5, 1, 3])
def test_a_share_of_a_gpu_would_break_it_too(gpus: float) -> None:
    assert taken(GANG, waits(2, gpus, limit=50)) == {}


def test_a_job_without_gpus_breaks_nothing() -> None:
    assert taken(GANG, waits(2, 0, limit=50)) == {2: "n1"}


def test_while_nobody_needs_whole_nodes_idle_ones_are_broken() -> None:
    assert taken(waits(2, 1, limit=50)) == {2: "n2"}
    assert taken(waits(1, 3, 3), waits(2, 1, limit=50)) == {2: "n2"}


def test_a_place_that_breaks_nothing_is_taken_though_another_fits_better() -> None:
    """The wide job cannot use n4, which best fit likes less."""
    wide = waits(1, 4, 3, models="H100")
    assert taken(wide, waits(2, 1, limit=50), nodes="n1-3:4 n4:8*A100") == {2: "n4"}


def test_another_owner_s_job_of_the_same_shape_that_has_lost_patience_starts() -> None:
    fair = replace(PATIENT, order=("priority", "fair-share", "age"))
    busy, wide = runs(9, "n1:0,1,2,3", ran=0, limit=100, owner="cy"), waits(1, 4, 3, priority="high")
    jobs = waits(2, 1, limit=50, owner="ada"), waits(3, 1, limit=50, owner="bob", waited=HOUR_S)
    assert nodes_taken(decide_on("n1-3:4", busy, wide, *jobs, policy=fair)) == {3: "n2"}


def test_without_patience_an_idle_node_is_broken_at_once() -> None:
    plan = decide_on("n1-3:4", BUSY, GANG, waits(2, 1, limit=50), policy=PLAIN)
    assert (nodes_taken(plan), plan.again_s) == ({2: "n2"}, None)
