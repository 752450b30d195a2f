"""What `shunter simulate` does, from the files that it is given to the figures that it prints."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import click
from msgspec import Struct
from msgspec.structs import replace

from shunter import __version__
from shunter.cli.output import print_json_line, warn
from shunter.cli.table import printable
from shunter.domain.node import Node
from shunter.errors import InvalidInput
from shunter.scheduling.policy import Policy
from shunter.sim.dump import STDOUT, dumping, targets
from shunter.sim.engine import simulate
from shunter.sim.fleet import read_fleet
from shunter.sim.limits import with_round_limits
from shunter.sim.policies import Named, read_policies
from shunter.sim.progress import Progress, progress
from shunter.sim.record import MOST_REFUSED, record
from shunter.sim.report.words import count
from shunter.sim.result import Refused, Result, Workload
from shunter.sim.trace import read_trace

_LISTED: Final = 10
_LIMITS: Final = {
    "round": "the trace's; where it has none, the next round one above the true length",
    "none": "the trace's; none where it has none",
}
_ALL: Final = frozenset({"cpus", "memory"})


class Question(Struct, frozen=True, kw_only=True):
    """The options of `shunter simulate`. *command* is how it was called."""

    trace: Path
    nodes: Path
    policies: Sequence[str]
    partition: str | None
    scale_load: float
    seed: int | None
    resources: str
    limits: str
    dump: str | None
    report: Path | None
    max_rows: int
    as_json: bool
    command: str


def answer(question: Question) -> None:
    """Simulate, and print and write what was asked for. Raises ShunterError, for bad input before anything is run."""
    policies = read_policies(question.policies, question.seed)
    dumps = _check_outputs(question, policies)
    nodes = read_fleet(question.nodes, partition=question.partition is not None)
    with progress(shown=not question.as_json and question.dump != STDOUT) as shown:
        workload = _read(question, nodes, shown)
        results = [_run(question, named, workload, nodes, dumps.get(named.name), shown) for named in policies]
    if question.report is not None:
        _report(question, workload, nodes, results)
    if not question.as_json:
        from shunter.sim.table import print_comparison

        say_refused(workload.refused)
        print_comparison(results, _head(workload, nodes), err=question.dump == STDOUT)


def _check_outputs(question: Question, policies: Sequence[Named]) -> dict[str, str]:
    """Return the target of --dump by policy. Raises InvalidInput for what cannot be written, or would be lost."""
    dumps = targets(question.dump, [named.name for named in policies]) if question.dump is not None else {}
    if STDOUT in dumps.values() and question.as_json:
        raise InvalidInput("--dump: - goes not with --json: both print to stdout", field="dump", fix="name a file")
    if question.report is not None:
        from shunter.sim.report.write import check_report

        check_report(question.report)
    inputs = [question.trace, question.nodes, *(named.path for named in policies)]
    for target in map(Path, dumps.values()):
        if any(_same(target, other) for other in (*inputs, *filter(None, [question.report]))):
            raise InvalidInput(f"--dump: {target} is a file of this run too", field="dump", fix="name another file")
    return dumps


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _read(question: Question, nodes: Sequence[Node], shown: Progress) -> Workload:
    workload = read_trace(
        question.trace,
        nodes,
        partition=question.partition,
        resources=_ALL if question.resources == "all" else frozenset(),
        scale_load=question.scale_load,
        max_rows=question.max_rows,
        progress=shown.rows(),
    )
    shown.done()
    return with_round_limits(workload) if question.limits == "round" else workload


def _run(
    question: Question, named: Named, workload: Workload, nodes: Sequence[Node], dump: str | None, shown: Progress
) -> Result:
    with ExitStack() as stack:
        result = simulate(
            named.name,
            workload,
            nodes,
            _in_one_pool(named.policy, workload) if question.partition is None else named.policy,
            keep=question.report is not None,
            started=stack.enter_context(dumping(dump)) if dump is not None else None,
            progress=shown.jobs(named.name, len(workload.jobs)),
        )
    shown.done()
    if question.as_json:
        print_json_line(record(result))
    return result


def _in_one_pool(policy: Policy, workload: Workload) -> Policy:
    """Return *policy* without pools where the trace has one priority class only: there is nobody to keep apart."""
    if len({trace.job.priority for trace in workload.jobs}) > 1:
        return policy
    return replace(policy, pools={}, classes={})


def _head(workload: Workload, nodes: Sequence[Node]) -> str:
    gpus = sum(node.usable_gpus for node in nodes)
    return f"{workload.source}: {count(len(workload.jobs), 'job')} on {count(len(nodes), 'node')}, {count(gpus, 'GPU')}"


def say_refused(refused: Sequence[Refused]) -> None:
    if not refused:
        return
    warn(f"{count(len(refused), 'job')} refused:")
    for one in refused[:_LISTED]:
        click.echo(f"  line {one.line}, {printable(one.name)}: {printable(one.message)}", err=True)
    if len(refused) > _LISTED:
        which = "them" if len(refused) <= MOST_REFUSED else f"the first {MOST_REFUSED:,}"
        click.echo(f"  and {len(refused) - _LISTED:,} more: --json lists {which}", err=True)


def _report(question: Question, workload: Workload, nodes: Sequence[Node], results: Sequence[Result]) -> None:
    from shunter.sim.report.write import write_report

    assert question.report is not None
    facts = [
        ("trace", str(question.trace)),
        ("nodes", f"{question.nodes}: {count(len(nodes), 'node')}"),
        ("jobs", f"{len(workload.jobs):,}"),
        ("refused", f"{len(workload.refused):,}"),
        ("partition", question.partition or "none: all nodes are one pool"),
        ("resources", "GPUs, cores and memory" if question.resources == "all" else "GPUs"),
        ("time limits", _LIMITS[question.limits]),
        ("load", f"times of submission divided by {question.scale_load:g}"),
        ("seed", "that of each policy" if question.seed is None else str(question.seed)),
        ("version", f"shunter {__version__}"),
        ("command", question.command),
    ]
    title = f"Simulation of {question.trace.name}"
    page = write_report(results, question.report, title=title, facts=facts)[0]
    if not question.as_json:
        click.echo(f"wrote {printable(str(page))}", err=True)
