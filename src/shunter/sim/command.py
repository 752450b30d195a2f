"""`shunter simulate`: what policies would have made of a trace, without a cluster."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

import click
from click.core import ParameterSource

from shunter.cli.options import json_option
from shunter.errors import InvalidInput

_ARGUMENTS: Final = "shunter.arguments"
_TIME_ONLY: Final = ("dump", "report", "partition", "scale_load", "limits", "resources")
_SNAPSHOT_ONLY: Final = ("ties", "seeds")
_PATH: Final = click.Path(path_type=Path)


class SimulateCommand(click.Command):
    """Remembers its command line: the report says how it was made."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)


@click.command(cls=SimulateCommand, short_help="Try policies on a trace of jobs.")
@click.argument("trace", type=_PATH, metavar="TRACE")
@click.option("--nodes", type=_PATH, required=True, metavar="FILE", help="The cluster: CSV, or `shunter nodes --json`.")
@click.option(
    "--policy", "policies", multiple=True, metavar="NAME|FILE,...",
    help="What to compare (repeatable; default: default). Shipped: best-fit, default, easy, fgd, fifo-bf, fifo-ff, "
    "sjf.",
)  # fmt: skip
@click.option(
    "--partition", metavar="COLUMN",
    help="Column of the trace that names each job's pool; jobs run on the nodes of that pool only. Of a history: pool, "
    "team or user. Without it all nodes are one pool.",
)  # fmt: skip
@click.option(
    "--scale-load", type=float, default=1.0, metavar="X",
    help="Divide times of submission by X: 1.2 is a fifth more load (1).",
)  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(min=0), metavar="N",
    help="Seed of policies with `ties: random`; with --snapshot the first of the seeds (1).",
)  # fmt: skip
@click.option(
    "--resources", type=click.Choice(["gpus", "all"]), default="gpus", show_default=True,
    help="What has to fit: GPUs only, or cores and memory too.",
)  # fmt: skip
@click.option(
    "--limits", type=click.Choice(["round", "none"]), default="round", show_default=True,
    help="Of jobs without time_limit_s: round gives each what its owner might have asked for, the next of 5, 15, 30 "
    "min, 1, 2, 4, 8, 12 h, 1, 2, 3, 7, 14, 30, 366 days above its true length; none leaves them without.",
)  # fmt: skip
@click.option(
    "--snapshot", is_flag=True,
    help="Measure packing alone: jobs come in random order and stay for ever, those that fit nowhere are dropped. "
    "Cores and memory count; nodes without GPUs and the pools of policies do not.",
)  # fmt: skip
@click.option(
    "--ties", type=click.Choice(["lexical", "random"]),
    help="With --snapshot: which of equally good nodes, the first in the file (lexical, the default) or any.",
)  # fmt: skip
@click.option(
    "--seeds", type=click.IntRange(1, 1_000), metavar="N", help="With --snapshot: how many random orders (10)."
)
@click.option(
    "--dump", metavar="FILE",
    help="Write job_id,start_s,end_s,nodes of each job, in order of start, as CSV; nodes by rank, with ; between. "
    "- is stdout. With several policies each gets a file, named FILE.POLICY: starts.csv is starts.fifo-bf.csv.",
)  # fmt: skip
@click.option("--report", type=_PATH, metavar="FILE.html", help="Write a page with charts, which needs nothing else.")
@click.option(
    "--max-rows", type=click.IntRange(min=1), metavar="N",
    help="Refuse a longer trace (2,000,000, which takes about 1 GB).",
)  # fmt: skip
@json_option
@click.pass_context
def simulate(
    ctx: click.Context,
    trace: Path,
    nodes: Path,
    policies: tuple[str, ...],
    partition: str | None,
    scale_load: float,
    seed: int | None,
    resources: str,
    limits: str,
    snapshot: bool,
    ties: str | None,
    seeds: int | None,
    dump: str | None,
    report: Path | None,
    max_rows: int | None,
    as_json: bool,
) -> None:
    """Run a trace of jobs through the scheduler under one or more policies, as fast as it goes, and compare them. The
    decisions are those of a live cluster: the same code makes them. No server, network or GPU is needed.

    \b
    Examples:
      shunter simulate jobs.csv --nodes nodes.csv
      shunter simulate jobs.csv --nodes nodes.csv --policy easy,mine.yaml --report r.html
      shunter simulate jobs.csv.gz --nodes nodes.csv --partition group --json

    \b
    Your own cluster, as it was, under a policy that it does not have yet:
      shunter queue --all --limit 100000 --json > history.json
      shunter nodes --json > nodes.json
      shunter simulate history.json --nodes nodes.json --policy default,mine.yaml

    \b
    How full each policy packs the cluster, as in published studies (mean over ten random orders):
      shunter simulate pods.csv.gz --nodes nodes.csv --snapshot --policy best-fit,fgd,default

    \b
    TRACE (.csv, .csv.gz; .json and .jsonl are histories) has a line for each job:
      job_id, submit_s, duration_s, gpus    required; times in seconds, gpus of the whole job
      user, team, group, priority, time_limit_s, gpu_milli, gpu_model, cpus, mem_gib
    The nodes (.csv, .json) have a line each, and their order breaks ties:
      node, gpus                            required
      cpus, mem_gib, gpu_model, pool, rack, labels, islands

    \b
    What the figures are (in the table; with --json):
      mean JCT    mean_jct_s            mean time from submission to end
      mean wait   mean_queue_s          mean time from submission to start
      wait p50    p50_queue_s           half of the jobs wait at most so long
      wait p99    p99_queue_s           99 % of the jobs do
      wait p99.9  p999_queue_s          99.9 % of the jobs do
      jobs that waited  queued_jobs     jobs that did not start at once
      GPUs used   util_window           share of GPU time in use from first to last submission
      packed      alloc_while_waiting   share of GPUs in use while at least one job waits
      makespan    makespan_s            time from the first submission to the last end
      fragmented  frag_fgd              share of GPUs that are free, but of no use to a typical
                                        job of the trace (FGD), while at least one job waits
      wall time   wall_s                time that the simulation took

    A job that no state of the cluster could hold is refused: it is counted, and listed with the reason (--json: the
    first 1,000). Jobs run as long as the trace says. A wait for ever ends the run with an error that names the job.
    """
    from shunter.sim import packing, study
    from shunter.sim.files import MAX_ROWS

    _check_together(ctx, snapshot=snapshot)
    policies = policies or ("default",)
    if snapshot:
        packing.answer(
            packing.Question(
                trace=trace,
                nodes=nodes,
                policies=policies,
                ties=ties or "lexical",
                seeds=seeds or 10,
                first=1 if seed is None else seed,
                max_rows=max_rows or MAX_ROWS,
                as_json=as_json,
            )
        )
        return
    study.answer(
        study.Question(
            trace=trace,
            nodes=nodes,
            policies=policies,
            partition=partition,
            scale_load=scale_load,
            seed=seed,
            resources=resources,
            limits=limits,
            dump=dump,
            report=report,
            max_rows=max_rows or MAX_ROWS,
            as_json=as_json,
            command=f"{ctx.command_path} {shlex.join(ctx.meta[_ARGUMENTS])}",
        )
    )


def _check_together(ctx: click.Context, *, snapshot: bool) -> None:
    """Raise InvalidInput for an option that says nothing with --snapshot, or without it."""
    for name in _TIME_ONLY if snapshot else _SNAPSHOT_ONLY:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = f"--{name.replace('_', '-')}"
            why = "goes not with --snapshot, where no time passes" if snapshot else "goes with --snapshot only"
            raise InvalidInput(f"{option}: {why}", field=name, fix="leave one of them out" if snapshot else None)
