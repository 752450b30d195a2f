"""The demo's runs: enough of them, and of every kind."""

from __future__ import annotations

from shunter.demo.sweep import RUNS


def test_the_sweep_has_every_kind_of_run() -> None:
    assert len(RUNS) >= 14
    assert {run.gpus for run in RUNS} == {1, 2, 4}
    assert {run.priority for run in RUNS} == {"high", "medium", "low"}
    assert [run.purpose for run in RUNS].count("fails") == 1
    assert [run.purpose for run in RUNS].count("cancelled") == 1


def test_the_sweep_asks_for_far_more_gpus_than_there_are() -> None:
    assert sum(run.gpus for run in RUNS) >= 4 * 8


def test_runs_can_be_told_apart() -> None:
    assert len({run.name for run in RUNS}) == len(RUNS)


def test_the_cancelled_run_starts_at_once() -> None:
    """It must hold a GPU when the demo cancels it, so it has to be among those that fill the eight GPUs."""
    before = [run.gpus for run in RUNS[: [run.purpose for run in RUNS].index("cancelled") + 1]]
    assert sum(before) <= 8
