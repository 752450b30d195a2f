"""The sample that Shunter ships: what the generator makes, and fit for every way to use it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from benchmarks.make_trace import (
    JOB_COLUMNS,
    JOBS,
    LOAD,
    NODE_COLUMNS,
    NODES,
    SEED,
    as_csv,
    job_rows,
    make_trace,
    node_rows,
)
from click.testing import CliRunner

import shunter.sim
from shunter.domain.job import Priority
from shunter.sim.fleet import read_fleet
from shunter.sim.trace import read_trace

SAMPLES = Path(shunter.sim.__file__).parent / "samples"


def test_sample_is_what_the_generator_makes(tmp_path: Path) -> None:
    result = CliRunner().invoke(make_trace, ["--out", str(tmp_path / "small")])
    assert result.exit_code == 0, result.output
    for name in ("small.csv", "small.nodes.csv"):
        assert (tmp_path / name).read_bytes() == (SAMPLES / name).read_bytes(), name


@pytest.mark.parametrize("partition", [None, "group"])
def test_every_job_of_the_sample_fits(partition: str | None) -> None:
    nodes = read_fleet(SAMPLES / "small.nodes.csv", partition=partition is not None)
    workload = read_trace(SAMPLES / "small.csv", nodes, partition=partition)
    assert (len(nodes), len(workload.jobs), workload.refused) == (NODES, JOBS, [])


def test_sample_has_something_of_everything() -> None:
    jobs = read_trace(SAMPLES / "small.csv", read_fleet(SAMPLES / "small.nodes.csv", partition=False)).jobs
    assert {one.job.request.gpus for one in jobs} == {1, 2, 4, 8, 16}
    assert {one.job.priority for one in jobs} == set(Priority)
    assert len({one.job.user for one in jobs}) == 12
    assert len({one.job.team for one in jobs}) == 3
    assert all(one.job.time_limit_s and one.job.time_limit_s > one.duration_s for one in jobs)
    asked = sum(one.job.request.gpus * one.duration_s for one in jobs)
    assert asked / (jobs[-1].job.submitted_s * 8 * NODES) == pytest.approx(LOAD, rel=1e-3)


@pytest.mark.parametrize("nodes", [8, 9, 13, 100])
def test_jobs_of_any_size_of_cluster_fit_their_pools(tmp_path: Path, nodes: int) -> None:
    jobs = as_csv(JOB_COLUMNS, job_rows(200, nodes, 0.5, 7))
    (tmp_path / "t.csv").write_text(jobs, encoding="utf-8")
    (tmp_path / "n.csv").write_text(as_csv(NODE_COLUMNS, node_rows(nodes)), encoding="utf-8")
    fleet = read_fleet(tmp_path / "n.csv", partition=True)
    assert len(fleet) == nodes
    assert min(Counter(node.pool for node in fleet).values()) >= 2
    assert read_trace(tmp_path / "t.csv", fleet, partition="group").refused == []


def test_another_seed_is_another_trace() -> None:
    assert job_rows(JOBS, NODES, LOAD, SEED) != job_rows(JOBS, NODES, LOAD, SEED + 1)
