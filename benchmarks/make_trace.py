"""A trace of jobs of our own making, with its nodes: `python -m benchmarks.make_trace --help`.

Nobody's real jobs are in it: every number is drawn from the seed, so the same options give the same bytes. Three groups
of four users share nodes of 8 GPUs; each group has a pool of its own, and every job fits the pool of its group. Jobs
take 1, 2, 4, 8 or 16 GPUs (two nodes); run times are log-normal, with a median of an hour and a half; people submit
more by day than by night; time limits are what people who do not want to be stopped would write. The span of time
follows from the load: all jobs together ask for that share of all GPUs from the first second to the last submission.

The sample that Shunter ships, `src/shunter/sim/samples/small.csv` and `small.nodes.csv`, was made by this command with
no option but `--out`.
"""

from __future__ import annotations

import csv
import io
import math
from bisect import bisect
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Final, NamedTuple, TypeVar

import click

from benchmarks.options import AT_LEAST_ONE, run
from benchmarks.output import say

JOBS: Final = 300
NODES: Final = 8
LOAD: Final = 1.1
SEED: Final = 1

GPUS: Final = 8
GROUPS: Final = {"language": 0.5, "vision": 0.25, "robotics": 0.25}
"""Groups, and their part of the nodes and of the jobs."""

USERS: Final = {
    "language": ("ada", "grace", "alan", "edsger"),
    "vision": ("barbara", "donald", "frances", "john"),
    "robotics": ("katherine", "leslie", "margaret", "niklaus"),
}
USER_WEIGHTS: Final = (5, 3, 2, 1)
SIZES: Final = {1: 50, 2: 14, 4: 14, 8: 16, 16: 6}
PRIORITIES: Final = {"high": 15, "medium": 60, "low": 25}
MEDIAN_S: Final = 5_400
SPREAD: Final = 1.3
SHORTEST_S: Final = 10
LONGEST_S: Final = 2 * 86_400
DAY_S: Final = 86_400
PEAK_S: Final = 15 * 3_600
"""Most is submitted at three in the afternoon; time 0 is a midnight."""

SWING: Final = 0.7
JOB_COLUMNS: Final = ("job_id", "user", "group", "submit_s", "duration_s", "gpus", "priority", "time_limit_s")
NODE_COLUMNS: Final = ("node", "gpus", "cpus", "mem_gib", "gpu_model", "pool")


Choice = TypeVar("Choice")


class Ask(NamedTuple):
    """A job before its time of submission is known."""

    group: str
    user: str
    gpus: int
    duration_s: int
    priority: str
    time_limit_s: int


def node_rows(nodes: int) -> list[tuple[str | int, ...]]:
    """Return *nodes* nodes (at least 8), dealt out to the groups."""
    ends = [round(part * nodes) for part in accumulate(GROUPS.values())]
    owners = [group for group, first, end in zip(GROUPS, [0, *ends], ends, strict=False) for _ in range(end - first)]
    return [(f"n{number:03d}", GPUS, 96, 1_024, "H100", owner) for number, owner in enumerate(owners, 1)]


def job_rows(jobs: int, nodes: int, load: float, seed: int) -> list[tuple[str | int, ...]]:
    """Return *jobs* jobs in order of submission that ask for *load* of *nodes* nodes (at least 8)."""
    random = Random(seed)
    asks = [_ask(random) for _ in range(jobs)]
    span_s = sum(ask.gpus * ask.duration_s for ask in asks) / (load * GPUS * nodes)
    rows: list[tuple[str | int, ...]] = []
    for number, (submit_s, ask) in enumerate(zip(_submit_times(random, jobs, span_s), asks, strict=True), 1):
        rest = ask.duration_s, ask.gpus, ask.priority, ask.time_limit_s
        rows.append((f"j{number:04d}", ask.user, ask.group, submit_s, *rest))
    return rows


def _ask(random: Random) -> Ask:
    group = _pick(random, GROUPS, GROUPS.values())
    # Box and Muller, and below no `choices`: of all of Random, only `random` stays the same from Python to Python.
    normal = math.sqrt(-2 * math.log(1 - random.random())) * math.cos(math.tau * random.random())
    duration_s = min(max(round(MEDIAN_S * math.exp(SPREAD * normal)), SHORTEST_S), LONGEST_S)
    half_hours = math.ceil(duration_s * (1.05 + 3 * random.random()) / 1_800)
    return Ask(
        group,
        _pick(random, USERS[group], USER_WEIGHTS),
        _pick(random, SIZES, SIZES.values()),
        duration_s,
        _pick(random, PRIORITIES, PRIORITIES.values()),
        half_hours * 1_800,
    )


def _pick(random: Random, choices: Iterable[Choice], weights: Iterable[float]) -> Choice:
    ends = list(accumulate(weights))
    return list(choices)[bisect(ends, random.random() * ends[-1])]


def _submit_times(random: Random, jobs: int, span_s: float) -> list[int]:
    """Return *jobs* times from 0 to *span_s*, ascending, denser by day; the last one is the end of the span."""
    times: list[float] = []
    while len(times) < jobs - 1:
        at_s = span_s * random.random()
        by_day = (1 + math.cos(math.tau * (at_s - PEAK_S) / DAY_S)) / 2
        if random.random() < 1 - SWING + SWING * by_day:
            times.append(at_s)
    return sorted(round(at_s) for at_s in [*times, span_s])


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[str | int]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


@click.command()
@click.option("--jobs", default=JOBS, show_default=True, type=AT_LEAST_ONE, help="How many jobs.")
@click.option("--nodes", default=NODES, show_default=True, type=click.IntRange(min=8), help="How many nodes of 8 GPUs.")
@click.option("--load", default=LOAD, show_default=True, type=click.FloatRange(min=0.01, max=100),
              help="What all jobs ask for, as a share of all GPUs over the time of submission.")  # fmt: skip
@click.option("--seed", default=SEED, show_default=True, type=int, help="Another seed is another trace.")
@click.option("--out", required=True, metavar="PREFIX", help="Writes PREFIX.csv and PREFIX.nodes.csv.")
def make_trace(jobs: int, nodes: int, load: float, seed: int, out: str) -> None:
    """Write a made-up trace and its nodes, for `shunter simulate`.

    \b
    python -m benchmarks.make_trace --jobs 100000 --nodes 500 --out /tmp/big
    shunter simulate /tmp/big.csv --nodes /tmp/big.nodes.csv
    """
    files = {
        f"{out}.csv": as_csv(JOB_COLUMNS, job_rows(jobs, nodes, load, seed)),
        f"{out}.nodes.csv": as_csv(NODE_COLUMNS, node_rows(nodes)),
    }
    for name, text in files.items():
        try:
            Path(name).write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            raise click.ClickException(f"--out: {name}: {error.strerror}") from error
        say(f"wrote {name}")


if __name__ == "__main__":
    run(make_trace)
