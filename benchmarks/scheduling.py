"""How long the scheduler takes: `python -m benchmarks.scheduling`. See the README."""

from __future__ import annotations

import gc
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from benchmarks.facts import machine_facts
from benchmarks.growth import Point, draw, slopes
from benchmarks.options import AT_LEAST_ONE, common, run
from benchmarks.output import BenchmarkFailed, Output, open_output, say
from benchmarks.stats import percentile
from benchmarks.world import GPUS, World, fleet
from shunter.runtime.garbage import look_seldom
from shunter.runtime.policy_file import read_policy
from shunter.scheduling.cycle import Cycle, cycle
from shunter.scheduling.policy import Policy
from shunter.scheduling.view import View

NODES: Final = 1_000
PENDING: Final = 10_000
COLD_PENDING: Final = 100_000
SHAPES: Final = 50
SETTLE: Final = 2_000
"""Events before the first one that counts: the first pass leaves a cluster tidier than it ever is again."""

GROWTH_NODES: Final = (125, 250, 500, 1_000, 2_000, 4_000)
GROWTH_PENDING: Final = (1_250, 2_500, 5_000, 10_000, 20_000, 40_000, 80_000)


class Setting(NamedTuple):
    """What is measured, and how often."""

    policy: Policy
    nodes: int
    pending: int
    shapes: int
    events: int
    seed: int


def measure_events(setting: Setting) -> dict[str, list[float]]:
    """Return how long each event took, in ms, by kind: the change of the view, the decision and its verification.

    An end frees GPUs, and what was decided starts; then so many jobs are submitted as keep the queue as long as it was,
    each an event of its own.
    """
    world = _full(setting)
    look_seldom()  # as the leader does once it has read all
    times: dict[str, list[float]] = defaultdict(list)
    for round_ in (SETTLE, setting.events):
        times.clear()
        while sum(map(len, times.values())) < round_:
            ending = world.next_end()
            times["end"].append(_timed(world, partial(world.end, ending)))
            while world.view.pending < setting.pending:
                job = world.new_job()
                times["submission"].append(_timed(world, partial(world.submit, job)))
    times["any"] = [*times["end"], *times["submission"]]
    return times


def measure_cold(setting: Setting) -> dict[str, list[float]]:
    """Return how long the first pass takes, in ms: on an idle cluster, and of a leader that takes a full one over.

    *read* is how long it takes to build the view that it decides on.
    """
    world = _queued(setting)
    fill = _clock(lambda: cycle(world.view, world.now_s))
    _check(fill[1], world.view)
    _fill(world, setting)
    build = _clock(world.rebuilt)
    taken_over: View = build[1]
    first = _clock(lambda: cycle(taken_over, world.now_s))
    _check(first[1], taken_over)
    return {"idle": [fill[0]], "read": [build[0]], "taken_over": [first[0]]}


def _queued(setting: Setting) -> World:
    world = World(fleet(setting.nodes), setting.policy, setting.shapes, setting.seed)
    for _ in range(setting.pending):
        world.submit(world.new_job())
    return world


def _full(setting: Setting) -> World:
    world = _queued(setting)
    _fill(world, setting)
    return world


def _fill(world: World, setting: Setting) -> None:
    """Let jobs start until there is no room, and the queue be as long as it was."""
    started = 1
    while started:
        found = cycle(world.view, world.now_s)
        _check(found, world.view)
        started = world.start(found.placements)
        while world.view.pending < setting.pending:
            world.submit(world.new_job())


def _timed(world: World, event: Callable[[], None]) -> float:
    """Return the milliseconds of *event* and the pass after it; what the pass decided then starts."""
    began = time.perf_counter()
    event()
    found = cycle(world.view, world.now_s)
    took = (time.perf_counter() - began) * 1000
    _check(found, world.view)
    began = time.perf_counter()
    world.start(found.placements)  # an update of the view that the event led to
    return took + (time.perf_counter() - began) * 1000


def _check(found: Cycle, view: View) -> None:
    if found.violations:
        raise BenchmarkFailed(f"the plan breaks a rule: {found.violations[0]}")
    waiting = sum(refusal.count for refusal in found.plan.refusals)
    if waiting + len(found.placements) != view.pending:
        raise BenchmarkFailed(f"{view.pending} jobs wait, and the plan speaks of {waiting + len(found.placements)}")


def _clock(call: Callable[[], Any]) -> tuple[float, Any]:
    gc.collect()
    gc.freeze()  # as in a process that has just started: only what this call makes is collected
    began = time.perf_counter()
    answer = call()
    took = time.perf_counter() - began
    gc.unfreeze()
    return took * 1000, answer


def _growth(out: Output, setting: Setting, plot: Path | None) -> None:
    """Measure again with more and more nodes, and with more and more pending jobs; fit and draw both."""
    curves: dict[str, list[Point]] = {"nodes": [], "pending": []}
    for nodes in GROWTH_NODES:
        curves["nodes"].append(_one(out, setting._replace(nodes=nodes), nodes))
    for pending in GROWTH_PENDING:
        curves["pending"].append(_one(out, setting._replace(pending=pending), pending))
    for against, other in (("nodes", {"pending": setting.pending}), ("pending", {"nodes": setting.nodes})):
        for of, exponent in slopes(curves[against]).items():
            out.figure("growth_slope", "exponent", [exponent], against=against, of=of, shapes=setting.shapes, **other)
    if plot is not None:
        plot.write_text(draw(curves["nodes"], curves["pending"], setting.nodes, setting.pending), encoding="utf-8")
        say(f"drawn: {plot}")


def _one(out: Output, setting: Setting, size: int) -> Point:
    samples = measure_events(setting)["any"]
    out.figure("pass_growth", "ms", samples, nodes=setting.nodes, pending=setting.pending, shapes=setting.shapes)
    say(f"{setting.nodes} nodes, {setting.pending} pending: done")
    return size, percentile(samples, 50), percentile(samples, 99)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--nodes", type=AT_LEAST_ONE, default=NODES, show_default=True, help=f"Nodes of {GPUS} GPUs.")
@click.option("--pending", type=AT_LEAST_ONE, default=PENDING, show_default=True, help="Jobs that wait.")
@click.option("--cold-pending", type=AT_LEAST_ONE, default=COLD_PENDING, show_default=True, help="… at a first pass.")
@click.option("--shapes", type=AT_LEAST_ONE, default=SHAPES, show_default=True, help="Different requests among them.")
@click.option("--events", type=AT_LEAST_ONE, default=4_000, show_default=True, help="Ends and submissions to measure.")
@click.option("--repeat", type=AT_LEAST_ONE, default=3, show_default=True, help="Repetitions, each of another seed.")
@click.option("--policy", default="default", show_default=True, help="A shipped policy, or a policy file.")
@click.option("--growth", is_flag=True, help="Also against the number of nodes, and of jobs that wait.")
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="With --growth: draw it (SVG) in this file."
)
@common
def main(
    nodes: int, pending: int, cold_pending: int, shapes: int, events: int, repeat: int, policy: str, growth: bool,
    plot: Path | None, json_file: str | None, folder: Path,
) -> None:  # fmt: skip
    """Measure what one event costs the scheduler on a full cluster with a long queue, and what the first pass costs.

    The core alone, on a virtual clock: no Redis, no network, no processes.
    """
    if plot is not None and not growth:
        raise click.UsageError("--plot: draws what --growth measures; give both")
    out = open_output("scheduling", json_file)
    out.line(machine_facts("scheduling", folder))
    setting = Setting(read_policy(policy), nodes, pending, shapes, events, 1)
    conditions = {"nodes": nodes, "shapes": shapes, "policy": policy}
    rounds = []
    for seed in range(1, repeat + 1):
        rounds.append(measure_events(setting._replace(seed=seed)))
        say(f"events: repetition {seed} done")
    for kind in ("any", "end", "submission"):
        out.repeated(f"pass_after_{kind}", "ms", [times[kind] for times in rounds], pending=pending, **conditions)
    cold = []
    for seed in range(1, repeat + 1):
        cold.append(measure_cold(setting._replace(seed=seed, pending=cold_pending)))
        say(f"cold: repetition {seed} done")
    for kind in ("idle", "read", "taken_over"):
        samples = [sample for times in cold for sample in times[kind]]
        out.figure(f"first_pass_{kind}", "ms", samples, pending=cold_pending, **conditions)
    if growth:
        _growth(out, setting, plot)


if __name__ == "__main__":
    run(main)
