"""`shunter simulate --snapshot`: policies compared by how full they pack a cluster, without time (`snapshot.py`)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from shunter.cli.output import print_json_line
from shunter.domain.node import Node
from shunter.errors import InvalidInput
from shunter.scheduling.policy import Policy
from shunter.sim.fleet import read_fleet
from shunter.sim.policies import Named, read_policies
from shunter.sim.progress import Progress, progress
from shunter.sim.report.words import count
from shunter.sim.result import TraceJob, Workload
from shunter.sim.snapshot import STEPS, UNTIL, Packing, pack
from shunter.sim.study import say_refused
from shunter.sim.trace import read_trace

TIES: Final = {"lexical": "order", "random": "random"}
"""What --ties calls a policy's `ties`."""

_ALL: Final = frozenset({"cpus", "memory"})


class Question(Struct, frozen=True, kw_only=True):
    """The options of `shunter simulate --snapshot`: *seeds* orders of arrival, the first drawn from seed *first*."""

    trace: Path
    nodes: Path
    policies: Sequence[str]
    ties: str
    seeds: int
    first: int
    max_rows: int
    as_json: bool


class Packed(Struct, frozen=True):
    """One policy: a run for each seed, in order."""

    policy: str
    runs: list[Packing]

    def mean(self, step: int) -> float:
        """Return the mean over the seeds of the share that is allocated at `STEPS[step]`."""
        return statistics.fmean(run.allocated[step] for run in self.runs)

    def spread(self, step: int) -> float:
        """Return the standard deviation over the seeds of that share, as a sample; 0 of one seed."""
        return statistics.stdev(run.allocated[step] for run in self.runs) if len(self.runs) > 1 else 0.0


def answer(question: Question) -> None:
    """Pack, and print what was asked for. Raises ShunterError, for bad input before anything is run."""
    policies = read_policies(question.policies, None)
    everything = read_fleet(question.nodes, partition=False)
    nodes = [node for node in everything if node.usable_gpus]
    if not nodes:
        raise InvalidInput(f"{question.nodes}: expected a node with GPUs, got none", field="nodes")
    with progress(shown=not question.as_json) as shown:
        workload = _read(question, nodes, shown)
        results = [_pack(question, named, workload.jobs, nodes, shown) for named in policies]
    if not question.as_json:
        from shunter.sim.packing_table import print_packings

        say_refused(workload.refused)
        print_packings(results, _head(workload, nodes, len(everything) - len(nodes), question.seeds))


def _read(question: Question, nodes: Sequence[Node], shown: Progress) -> Workload:
    workload = read_trace(question.trace, nodes, resources=_ALL, max_rows=question.max_rows, progress=shown.rows())
    shown.done()
    if not any(trace.job.request.milli for trace in workload.jobs):
        raise InvalidInput(f"{question.trace}: expected a job that asks for GPUs and fits the nodes, got none")
    return workload


def _pack(question: Question, named: Named, jobs: Sequence[TraceJob], nodes: Sequence[Node], shown: Progress) -> Packed:
    whole = round(100 * UNTIL)
    report = shown.percent(named.name, whole * question.seeds)
    runs = []
    for number in range(question.seeds):

        def note(requested: float, before: int = whole * number) -> None:
            if report is not None:
                report(before + round(100 * requested))

        began = time.perf_counter()
        policy, seed = _in_one_pool(named.policy, question.ties), question.first + number
        packing = pack(named.name, jobs, nodes, policy, seed, progress=note)
        runs.append(packing)
        if question.as_json:
            print_json_line(record(packing, question.ties, time.perf_counter() - began))
    shown.done()
    found = Packed(named.name, runs)
    if question.as_json:
        print_json_line(summary(found, question.ties))
    return found


def _in_one_pool(policy: Policy, ties: str) -> Policy:
    """Return *policy* with all nodes in one pool: jobs that come one by one and never leave take nobody's place."""
    return replace(policy, pools={}, classes={}, ties=TIES[ties])


def record(packing: Packing, ties: str, wall_s: float) -> dict[str, Any]:
    """Return one run as it is printed: shares of the GPUs by the percentage of them that was requested."""
    return {
        "policy": packing.policy,
        "ties": ties,
        "seed": packing.seed,
        "allocated": {_percent(step): share for step, share in enumerate(packing.allocated)},
        "jobs": packing.jobs,
        "dropped": packing.dropped,
        "wall_s": wall_s,
    }


def summary(found: Packed, ties: str) -> dict[str, Any]:
    """Return all runs of one policy as they are printed."""
    return {
        "policy": found.policy,
        "ties": ties,
        "seeds": len(found.runs),
        "mean_allocated": {_percent(step): found.mean(step) for step in range(len(STEPS))},
        "stdev_allocated": {_percent(step): found.spread(step) for step in range(len(STEPS))},
    }


def _percent(step: int) -> str:
    return f"{100 * STEPS[step]:.0f}"


def _head(workload: Workload, nodes: Sequence[Node], without: int, seeds: int) -> str:
    gpus = sum(node.usable_gpus for node in nodes)
    left_out = f" ({count(without, 'node')} without GPUs left out)" if without else ""
    return (
        f"{workload.source}: {count(len(workload.jobs), 'job')} in {count(seeds, 'random order')} on "
        f"{count(len(nodes), 'node')}, {count(gpus, 'GPU')}{left_out}"
    )
