"""No backfill: whoever is blocked blocks all behind it, in every pool that it might use."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from shunter.domain.job import Priority
from shunter.domain.reason import InLine, NeverFits, NotEnoughFree
from shunter.scheduling.policy import Policy, Route
from tests.unit.scheduling.cluster import PLAIN, decide_on, nodes_taken, placed, refused, reserved, runs, waits

LINE = replace(PLAIN, backfill=None)
STRICT = Policy(
    order=("priority", "age"),
    placement=("best-fit",),
    backfill=None,
    classes={Priority.HIGH: Route("gold", ("tin",)), Priority.LOW: Route("tin", ("gold",))},
    strict=True,
    share_all_below=0,
)


def test_nobody_passes_a_blocked_job_however_short() -> None:
    plan = decide_on("n1:4 n2:2", runs(9, "n1:0", limit=100), waits(1, 4), waits(2, limit=1), policy=LINE)
    assert (placed(plan), reserved(plan)) == ({}, {})
    assert refused(plan) == {1: NotEnoughFree(1, 4, 0, 3, 5), 2: InLine(1)}


def test_those_before_it_start() -> None:
    plan = decide_on("n1:4", waits(1, 2), waits(2, 4), waits(3), policy=LINE)
    assert placed(plan) == {1: "n1:0,1"}


def test_a_job_that_can_never_fit_blocks_nobody() -> None:
    plan = decide_on("n1:4", waits(1, 8), waits(2, models="A100"), waits(3), policy=LINE)
    assert placed(plan) == {3: "n1:0"}


@pytest.mark.parametrize("never", [{"within": "rack"}, {"last_gpus": 2}])
def test_a_gang_that_can_never_fit_blocks_nobody(never: dict[str, Any]) -> None:
    """Three nodes of one rack; two big nodes of which one must be free for the odd member: neither is here."""
    plan = decide_on("n1-2:4/r1 n3:1/r2", waits(1, 4 if "last_gpus" in never else 1, 3, **never), waits(2), policy=LINE)
    assert placed(plan)[2]
    assert isinstance(refused(plan)[1], NeverFits)


def test_a_job_that_waits_for_some_nodes_leaves_the_others_alone() -> None:
    jobs = runs(9, "n1:0", limit=100), waits(1, 4, models="H100"), waits(2, models="A100"), waits(3, 0, cpus=1)
    plan = decide_on("n1:4 n2:4*A100", *jobs, policy=LINE)
    assert nodes_taken(plan) == {2: "n2", 3: "n2"}


def test_a_gang_behind_it_starts_only_where_enough_nodes_are_open() -> None:
    jobs = runs(9, "n1:0", limit=100), waits(1, 4, models="H100"), waits(2, 1, 2), waits(3, 1, 1, models="L40S")
    plan = decide_on("n1:4 n2:4*A100 n3:1*L40S", *jobs, policy=LINE)
    assert nodes_taken(plan) == {2: "n3 n2"}
    assert isinstance(refused(plan)[3], NotEnoughFree)
    plan = decide_on("n1:4 n2:4*A100", *jobs[:3], policy=LINE)
    assert refused(plan)[2] == InLine(1)


def test_where_pools_are_strict_each_has_a_line_of_its_own() -> None:
    jobs = runs(9, "n1:0", limit=100), waits(1, 4, priority="high"), waits(2, priority="low"), waits(3, priority="high")
    plan = decide_on("n1:4@gold n2:4@tin", *jobs, policy=STRICT)
    assert nodes_taken(plan) == {2: "n2"}
    assert refused(plan)[3] == InLine(1)


def test_where_they_lend_to_each_other_it_is_one_line() -> None:
    jobs = (
        runs(9, "n1:0", limit=100),
        runs(8, "n2:0", limit=100),
        waits(1, 4, priority="high"),
        waits(2, priority="low"),
    )
    plan = decide_on("n1:4@gold n2:4@tin", *jobs, policy=replace(STRICT, strict=False))
    assert refused(plan)[2] == InLine(1)


def test_a_retry_that_backs_off_blocks_nobody() -> None:
    plan = decide_on("n1:4", waits(1, 4, failed_on="n1", not_before_s=1e9), waits(2), policy=LINE)
    assert placed(plan) == {2: "n1:0"}
