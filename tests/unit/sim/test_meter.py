"""The figures of small cases, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from shunter.runtime.policy_file import read_policy
from shunter.sim.engine import simulate
from shunter.sim.meter import percentile
from shunter.sim.result import Moment, Result
from tests.unit.sim.traces import case, written


def run(folder: Path, jobs: list[str], nodes: list[str], policy: str = "fifo-bf") -> Result:
    found = case(*written(folder, jobs, nodes))
    return simulate(policy, found.workload, found.nodes, read_policy(policy), keep=True)


def test_figures_of_two_jobs_that_need_the_same_node(tmp_path: Path) -> None:
    result = run(tmp_path, ["a,0,10,4", "b,4,6,3"], ["n,4"])  # b waits from 4 to 10, and ends at 16
    assert (result.jobs, result.queued_jobs) == (2, 1)
    assert (result.mean_jct_s, result.mean_queue_s, result.makespan_s) == ((10 + 12) / 2, (0 + 6) / 2, 16)
    assert (result.p50_queue_s, result.p99_queue_s, result.p999_queue_s) == (3, 6 * 0.99, 6 * 0.999)
    assert result.util_window == 1.0  # from 0 to 4 all GPUs are in use
    assert result.alloc_while_waiting == 1.0  # and from 4 to 10, too


def test_use_counts_from_the_first_to_the_last_submission(tmp_path: Path) -> None:
    result = run(tmp_path, ["a,10,5,2", "b,20,100,4"], ["n,4"])
    assert result.util_window == 2 * 5 / (4 * 10)


def test_packed_is_the_share_in_use_while_jobs_wait(tmp_path: Path) -> None:
    # b needs all of n while a has 3 of it (2 to 10); it waits until 10. Before and after, nobody waits.
    result = run(tmp_path, ["a,0,10,3", "b,2,5,4"], ["n,4"])
    assert result.alloc_while_waiting == 3 / 4
    assert result.queued_jobs == 1


def test_without_waiting_all_is_packed_and_nothing_fragmented(tmp_path: Path) -> None:
    result = run(tmp_path, ["a,0,10,1", "b,0,10,1"], ["n,4"])
    assert (result.alloc_while_waiting, result.frag_fgd, result.queued_jobs) == (1.0, 0.0, 0)


def test_fragmented_are_free_gpus_that_a_typical_job_cannot_use(tmp_path: Path) -> None:
    # While b waits (2 to 10), n has 1 GPU free. Neither a job like a (3 GPUs) nor one like b (4) could use it, but one
    # like c, which comes later, could: that makes 2/3 of a GPU, of 4.
    result = run(tmp_path, ["a,0,10,3", "b,2,5,4", "c,50,1,1"], ["n,4"])
    assert result.frag_fgd == pytest.approx(2 / 3 / 4, rel=1e-12)


def test_fragmentation_adds_up_over_nodes(tmp_path: Path) -> None:
    # While b waits for two nodes, one GPU is free on each: of no use to any job of the trace.
    result = run(tmp_path, ["a,0,10,3", "a2,0,10,3", "b,2,5,8"], ["n,4", "m,4"])
    assert (result.frag_fgd, result.alloc_while_waiting) == (2 / 8, 6 / 8)
    # Or both are on n, and m is free: of use to all of them.
    result = run(tmp_path, ["a,0,10,2", "a2,0,10,2", "b,2,5,8"], ["n,4", "m,4"])
    assert (result.frag_fgd, result.alloc_while_waiting) == (0, 4 / 8)


def test_mean_over_time_weighs_each_state_by_how_long_it_lasts(tmp_path: Path) -> None:
    # c waits from 0 to 9: 4 of 4 in use until 3, then 2 of 4 until 9.
    result = run(tmp_path, ["a,0,3,2", "b,0,9,2", "c,0,1,4"], ["n,4"])
    assert result.alloc_while_waiting == pytest.approx((4 * 3 + 2 * 6) / (4 * 9), rel=1e-12)


def test_moments_are_the_states_in_order_to_the_end(tmp_path: Path) -> None:
    result = run(tmp_path, ["a,0,10,4,g,high", "b,4,6,3,g,low"], ["n,4"])
    assert result.moments == [
        Moment(0, 4, (0, 0, 0), 0),
        Moment(4, 4, (0, 0, 1), 0),
        Moment(10, 3, (0, 0, 0), 1),  # the last free GPU is of no use to either
        Moment(16, 0, (0, 0, 0), 0),
    ]
    assert [(one.name, one.gpus, one.submit_s, one.start_s, one.end_s) for one in result.runs] == [
        ("a", 4, 0, 0, 10),
        ("b", 3, 4, 10, 16),
    ]


def test_an_empty_trace_has_figures_too(tmp_path: Path) -> None:
    result = run(tmp_path, ["a,0,10,9"], ["n,4"])  # refused
    assert (result.jobs, result.mean_jct_s, result.makespan_s, result.util_window) == (0, 0, 0, 0)
    assert [one.name for one in result.refused] == ["a"]


def test_percentiles_interpolate_between_order_statistics() -> None:
    assert percentile([], 0.5) == 0
    assert percentile([7.0], 0.999) == 7
    assert percentile([0.0, 10.0], 0.25) == 2.5
    assert percentile([0.0, 1.0, 2.0, 10.0], 0.5) == 1.5
    assert percentile([0.0, 1.0, 10.0], 1.0) == 10
