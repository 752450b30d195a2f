"""Traces for tests: small ones as rows, the sample that Shunter ships, and a real one where it is there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

import shunter.sim
from shunter.domain.node import Node
from shunter.runtime.policy_file import read_policy
from shunter.sim.engine import simulate
from shunter.sim.fleet import read_fleet
from shunter.sim.result import Result, Run, Workload
from shunter.sim.trace import read_trace
from tests.unit.sim.reference import Ask, Box, Start

SAMPLES = Path(shunter.sim.__file__).parent / "samples"
SMALL, SMALL_NODES = SAMPLES / "small.csv", SAMPLES / "small.nodes.csv"

_ROOT = Path(__file__).parents[3]


class Case(NamedTuple):
    nodes: Sequence[Node]
    workload: Workload


def case(trace: Path, nodes: Path, partition: str | None = None) -> Case:
    fleet = read_fleet(nodes, partition=partition is not None)
    return Case(fleet, read_trace(trace, fleet, partition=partition))


def written(folder: Path, jobs: Iterable[str], nodes: Iterable[str]) -> tuple[Path, Path]:
    """Write *jobs* (`job_id,submit_s,duration_s,gpus[,group[,priority]]`) and *nodes* (`node,gpus[,pool]`) as files."""
    trace, fleet = folder / "jobs.csv", folder / "nodes.csv"
    _write(trace, ("job_id", "submit_s", "duration_s", "gpus", "group", "priority"), jobs)
    _write(fleet, ("node", "gpus", "pool"), nodes)
    return trace, fleet


def _write(path: Path, columns: Sequence[str], rows: Iterable[str]) -> None:
    lines = [",".join(columns), *(row + "," * (len(columns) - 1 - row.count(",")) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def real_trace() -> tuple[Path, Path]:
    """Return the Venus trace and its nodes, in SHUNTER_TRACES or in shared/traces beside the repository."""
    return _kept("helios_venus_2020-09.csv.gz", "helios_venus_2020-09.nodes.csv")


def packing_trace() -> tuple[Path, Path]:
    """Return the openb trace and its nodes, from the same folder."""
    return _kept("openb_default.csv.gz", "openb.nodes.csv")


def _kept(*names: str) -> tuple[Path, Path]:
    folder = Path(os.environ.get("SHUNTER_TRACES") or _ROOT.parent / "shared" / "traces")
    trace, nodes = (folder / name for name in names)
    if not (trace.is_file() and nodes.is_file()):
        pytest.skip(f"{trace.name} is not here; SHUNTER_TRACES names the folder that it is in")
    return trace, nodes


def simulated(given: Case, policy: str) -> tuple[Result, dict[str, Start]]:
    """Return the figures of *policy*, and when and where each job starts."""
    starts: dict[str, Start] = {}

    def started(run: Run) -> None:
        starts[run.name] = Start(run.start_s, tuple(share.node for share in run.shares))

    return simulate(policy, given.workload, given.nodes, read_policy(policy), started=started), starts


def asks(given: Case) -> list[Ask]:
    return [
        Ask(one.name, one.job.submitted_s, one.duration_s, one.job.request.gpus, one.job.request.pool)
        for one in given.workload.jobs
    ]


def boxes(given: Case) -> list[Box]:
    return [Box(node.name, node.usable_gpus, node.pool) for node in given.nodes]
