"""What faults cost, and that no job runs twice at once: `python -m benchmarks.faults`. See the README. Needs root.

Whether a job did is judged by what its attempts write themselves: each stamps the boot-time clock, which all namespaces
of a machine share, into a file of its own every 10 ms.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import click

from benchmarks.facts import machine_facts
from benchmarks.fault_world import ENOUGH_S, GPUS, REDIS, World, world_of
from benchmarks.options import AT_LEAST_ONE, run
from benchmarks.output import BenchmarkFailed, open_output, say
from shunter.domain.lease import TERMS
from shunter.errors import ShunterError
from shunter.runtime.process import boot_time_s
from shunter.sdk.client import WaitTimedOut

STAMPING: Final = """
import os, time
file = os.open(f"{os.environ['STAMPS']}.{os.environ['SHUNTER_ATTEMPT']}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
while not os.path.exists(os.environ["STAMPS"] + ".go"):
    os.write(file, b"%.4f\\n" % time.clock_gettime(time.CLOCK_BOOTTIME))
    time.sleep(0.01)
"""


class Span(NamedTuple):
    """An attempt's first and last stamp."""

    first_s: float
    last_s: float


def span_of(stamps: str) -> Span | None:
    """Return the span of a file of stamps, None of one without a whole line: the last may be half written."""
    lines = stamps.split("\n")[:-1]
    return Span(float(lines[0]), float(lines[-1])) if lines else None


def doublings(spans: Sequence[Span]) -> int:
    """Return how many attempts, in the order of their numbers, began before all earlier ones had stopped for good."""
    found, last_s = 0, float("-inf")
    for span in spans:
        found += span.first_s <= last_s
        last_s = max(last_s, span.last_s)
    return found


class Job(NamedTuple):
    """A job that stamps, with all GPUs of a node for itself."""

    id: int
    stamps: Path

    def spans(self) -> dict[int, Span]:
        """Return the span of each attempt that ran, by its number, in order."""
        found = {}
        for path in self.stamps.parent.glob(f"{self.stamps.name}.*"):
            if path.suffix[1:].isdigit() and (span := span_of(path.read_text())):
                found[int(path.suffix[1:])] = span
        return dict(sorted(found.items()))

    def first_s(self, attempt: int) -> float | None:
        span = self.spans().get(attempt)
        return span and span.first_s

    def goes_on(self, since_s: float) -> bool:
        """Whether any attempt stamped after *since_s*."""
        return any(span.last_s > since_s for span in self.spans().values())


class Tally(NamedTuple):
    """What one repetition found out: *seconds* of the fault, and of its jobs."""

    seconds: float
    doublings: int
    lost: int
    requeues: int


Times = NamedTuple("Times", [("cut_s", float), ("outage_s", float), ("slow_s", float), ("away_s", float)])  # noqa: UP014


class Scene:
    """One repetition: its jobs, and what rows look for."""

    def __init__(self, world: World, times: Times, number: int) -> None:
        self.world = world
        self.times = times
        self.until = world.until
        self.jobs: list[Job] = []
        self._folder = world.storage / f"stamps-{number}"
        self._folder.mkdir()

    def submit(self) -> Job:
        stamps = self._folder / f"job{len(self.jobs)}"
        id = self.world.client.submit(
            command=[sys.executable, "-S", "-E", "-c", STAMPING], gpus=GPUS, cwd="/", name=stamps.name, grace=1,
            time="3h", max_retries=20, env={"STAMPS": str(stamps)},
        ).id  # fmt: skip
        self.jobs.append(Job(id, stamps))
        return self.jobs[-1]

    def start(self, number: int) -> list[tuple[Job, str]]:
        """Start *number* jobs, each alone on its node, and wait until all stamp; return them with their nodes."""
        for _ in range(number):
            self.submit()
        self.until(lambda: all(job.first_s(1) for job in self.jobs), "all jobs to start")
        return [(job, self.world.client.job(job.id).nodes[0]) for job in self.jobs]

    def again_s(self, job: Job, attempt: int = 2) -> float:
        """Wait for a later attempt of *job*, and return when it began."""
        return self.until(lambda: job.first_s(attempt), f"attempt {attempt} of job {job.id}") or 0.0

    def all_go_on(self, since_s: float) -> float:
        """Wait until every job stamps again, and return how long after *since_s* that was."""
        self.until(lambda: all(job.goes_on(since_s) for job in self.jobs), "all jobs to go on")
        return boot_time_s() - since_s

    def anew(self, nodes: Sequence[str], before: Mapping[str, str]) -> None:
        """Wait until *nodes* have joined with later incarnations than *before*."""

        def look() -> bool:
            now = self.world.incarnations()
            return all(now[node] > before[node] for node in nodes)

        self.until(look, f"{', '.join(nodes)} to join anew")

    def back(self, nodes: Sequence[str]) -> None:
        """Wait until *nodes* take work, and of the attempts that went elsewhere no process is left."""
        self.until(lambda: self.world.ready(nodes), f"{', '.join(nodes)} to be back")

        def look() -> bool:
            return len(self.world.members()) <= len(self.jobs)

        self.until(look, "the stale attempts to be ended")

    def picture(self) -> str:
        """Return how nodes and jobs stand, for those who ask why a row failed."""
        nodes = [
            f"{view.node.name}: {view.state}, {view.free_gpus} GPUs free, {view.jobs}"
            for view in self.world.client.nodes()
        ]
        views = [self.world.client.job(job.id) for job in self.jobs]
        jobs = [f"job {view.id} {view.state}, attempt {view.attempt}, {view.nodes} {view.reason}" for view in views]
        return "\n".join([*nodes, *jobs])

    def doubled(self) -> int:
        return sum(doublings(list(job.spans().values())) for job in self.jobs)

    def settle(self, seconds: float) -> Tally:
        """Let all jobs end once every node is back, and judge what they wrote."""
        self.until(self.world.ready, "all nodes to be ready")
        self.until(self.world.leader, "a leader")
        self.all_go_on(boot_time_s())
        for job in self.jobs:
            job.stamps.with_suffix(".go").touch()
        with suppress(WaitTimedOut):
            self.world.client.wait(*(job.id for job in self.jobs), timeout_s=ENOUGH_S)
        views = [self.world.client.job(job.id) for job in self.jobs]
        lost = [f"job {view.id}: {view.state} {view.outcome}" for view in views if view.state != "succeeded"]
        if lost:
            say("\n".join(lost))
        return Tally(seconds, self.doubled(), len(lost), sum(len(job.spans()) - 1 for job in self.jobs))


# the rows: each makes one fault, undoes it, and returns the seconds that it measured
Run = Callable[[Scene], float]
Deed = Callable[[World, str], object]


def elsewhere(harm: Deed, heal: Deed | None, number: int = 1, lasts: str = "") -> Run:
    """So many nodes that run a job are harmed; until these jobs run elsewhere, or without *heal*, again."""

    def row(scene: Scene) -> float:
        world, harmed = scene.world, scene.start(3)[:number]
        nodes = [node for _, node in harmed]
        before, began_s = world.incarnations(), boot_time_s()
        for node in nodes:
            harm(world, node)
        took_s = max(scene.again_s(job) for job, _ in harmed) - began_s
        if lasts:
            time.sleep(max(began_s + getattr(scene.times, lasts) - boot_time_s(), 0.0))
        if heal is not None:
            for node in nodes:
                heal(world, node)
            scene.anew(nodes, before)
        scene.back(nodes)
        return took_s

    return row


def worker_restarted(scene: Scene) -> float:
    """Return the seconds from the start of the new worker until an answer to one of its renewals was obeyed."""
    world, (_, node) = scene.world, scene.start(3)[0]
    before = world.mark(node).worker
    world.kill(node)
    time.sleep(1.0)
    began_s = boot_time_s()
    world.start_role(node)
    scene.until(lambda: (mark := world.mark(node)).worker != before and mark.done > 0, f"{node} to renew")
    took_s = boot_time_s() - began_s
    scene.all_go_on(boot_time_s())
    return took_s


def leader_away(harm: Deed) -> Run:
    """The leader is killed or stopped; until a job that is submitted then has started."""

    def row(scene: Scene) -> float:
        world = scene.world
        scene.start(3)
        leader, began_s = scene.until(world.leader, "a leader"), boot_time_s()
        harm(world, leader)
        took_s = scene.again_s(scene.submit(), 1) - began_s
        world.revive(leader)
        time.sleep(2.0)  # one that still thinks that it leads would do something now
        return took_s

    return row


def standstill(begin: Callable[[World], object], end: Callable[[World], object], lasts: str = "cut_s") -> Run:
    """Nobody can renew: all jobs freeze, no process ends, and all go on; until they do after *end*."""

    def row(scene: Scene) -> float:
        world, terms = scene.world, TERMS[scene.world.lease]
        scene.start(len(world.nodes))
        before = world.members()
        began_s = boot_time_s()
        begin(world)
        time.sleep(getattr(scene.times, lasts))
        since_s = boot_time_s()
        if since_s - began_s > terms.fence_after_s + terms.freeze_within_s:
            time.sleep(0.2)
            if running := [job.id for job in scene.jobs if job.goes_on(since_s)]:
                raise BenchmarkFailed(f"jobs {running} run without a lease")
        if before != (now := world.members()):
            raise BenchmarkFailed(f"processes ended: {sorted(before - now)}, and began: {sorted(now - before)}")
        since_s = boot_time_s()
        end(world)
        return scene.all_go_on(since_s)

    return row


def join_and_leave(scene: Scene) -> float:
    """While one node is cut off, two others leave and two join; until its job runs elsewhere."""
    world, ((job, gone), *others) = scene.world, scene.start(3)
    leaving = [node for _, node in others]
    before, began_s = world.incarnations(), boot_time_s()
    world.cut(gone)
    for leaves, joins in zip(leaving, world.spares, strict=True):
        world.leave(leaves)
        world.start_role(joins)
    took_s = scene.again_s(job) - began_s
    time.sleep(max(began_s + scene.times.cut_s - boot_time_s(), 0.0))
    world.mend(gone)
    for node in leaving:
        world.start_role(node)
    scene.anew([gone, *leaving], before)
    scene.back([gone, *leaving])
    for node in world.spares:
        world.kill(node)  # one that leaves keeps its jobs for minutes

    def moved() -> bool:
        return not any(set(world.client.job(job.id).nodes) & set(world.spares) for job in scene.jobs)

    scene.until(moved, "no job to be left on a node that has left")
    return took_s


class Row(NamedTuple):
    """*aim_s* by normal and fast terms, *repeat* by default. *requeues*: how many are right in a repetition."""

    run: Run
    aim_s: tuple[float | None, float | None]
    repeat: int
    requeues: int
    slow: bool = False
    spare: int = 0

    def aim(self, lease: str) -> float | None:
        return self.aim_s[lease == "fast"]


LEASES: Final = ("normal", "fast")
LOST, SOON, LEADER = (35.0, 10.0), (10.0, 10.0), (5.0, 5.0)
ROWS: Final[dict[str, Row]] = {
    "node-killed": Row(elsewhere(World.kill_node, World.start_role), LOST, 20, 1),
    "worker-restarted": Row(worker_restarted, (3.0, 3.0), 20, 0),
    "worker-stopped": Row(elsewhere(World.freeze, World.revive, 1, "away_s"), LOST, 3, 1),
    "worker-killed": Row(elsewhere(World.kill, World.revive, 1, "away_s"), LOST, 3, 1),
    "keeper-killed": Row(elsewhere(World.kill_keeper, None), SOON, 20, 1),
    "leader-killed": Row(leader_away(World.kill), LEADER, 20, 0),
    "leader-stopped": Row(leader_away(World.freeze), LEADER, 20, 0),
    "cut-one": Row(elsewhere(World.cut, World.mend, 1, "cut_s"), LOST, 3, 1),
    "cut-one-out": Row(elsewhere(World.cut_out, World.mend, 1, "cut_s"), LOST, 3, 1),
    "cut-one-in": Row(elsewhere(World.cut_in, World.mend, 1, "cut_s"), LOST, 3, 1),
    "cut-two": Row(elsewhere(World.cut, World.mend, 2, "cut_s"), LOST, 3, 2),
    "cut-two-out": Row(elsewhere(World.cut_out, World.mend, 2, "cut_s"), LOST, 3, 2),
    "cut-two-in": Row(elsewhere(World.cut_in, World.mend, 2, "cut_s"), LOST, 3, 2),
    "all-links-down": Row(standstill(World.cut_all, World.mend_all), SOON, 3, 0),
    "redis-silent": Row(standstill(lambda world: world.cut(REDIS), World.mend_all, "outage_s"), SOON, 3, 0),
    "redis-refusing": Row(standstill(World.stop_redis, World.start_redis, "outage_s"), SOON, 3, 0),
    "redis-slow": Row(standstill(World.slow_down, World.speed_up, "slow_s"), SOON, 3, 0, slow=True),
    "redis-empty": Row(standstill(World.empty_redis, World.refill_redis), SOON, 3, 0),
    "join-and-leave": Row(join_and_leave, LOST, 3, 9, spare=2),
}


def table(found: Mapping[str, Sequence[Tally] | str], lease: str) -> str:
    """Return what was *found*, a line for each row: its tallies, or why there are none."""
    lines = [("row", "n", "median s", "max s", "aim s", "doubled", "lost", "requeued")]
    for name, tallies in found.items():
        if isinstance(tallies, str):
            continue
        seconds = [tally.seconds for tally in tallies]
        doubled, lost, requeued = (str(sum(column)) for column in list(zip(*tallies, strict=True))[1:])
        median, most = f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}"
        aim_s = ROWS[name].aim(lease)
        lines.append((name, str(len(tallies)), median, most, f"{aim_s or 0:g}", doubled, lost, requeued))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = ["  ".join(map(str.rjust, line[1:], widths[1:])) for line in lines]
    texts = [f"{line[0].ljust(widths[0])}  {rest}" for line, rest in zip(lines, shown, strict=True)]
    return "\n".join([*texts, *(f"{name}  FAILED: {why}" for name, why in found.items() if isinstance(why, str))])


def broken(name: str, row: Row, tallies: Sequence[Tally]) -> list[str]:
    """Return which promises *tallies* break."""
    counts = {
        "ran twice at once": sum(tally.doublings for tally in tallies),
        "were lost or ended": sum(tally.lost for tally in tallies),
        "ran again that should have gone on": sum(max(tally.requeues - row.requeues, 0) for tally in tallies),
    }
    return [f"{name}: {count} jobs {what}" for what, count in counts.items() if count]


def measure(name: str, world: World, times: Times, repeat: int) -> list[Tally]:
    """Run the row *name* in *world*, so often. What doubled counts where the row fails, too."""
    tallies = []
    for number in range(1, repeat + 1):
        scene = Scene(world, times, number)
        try:
            tallies.append(scene.settle(ROWS[name].run(scene)))
        except (BenchmarkFailed, ShunterError) as error:
            raise BenchmarkFailed(f"repetition {number}, {scene.doubled()} doubled so far: {error}") from error
        say(f"{name}: repetition {number}: {tallies[-1]}")
    return tallies


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--row", "rows", multiple=True, type=click.Choice(list(ROWS)), help="Only this one; may be repeated.")
@click.option("--repeat", type=AT_LEAST_ONE, help="Repetitions of each row (default: 20, of long ones 3).")
@click.option("--lease", type=click.Choice(LEASES), default="normal", show_default=True, help="The nodes' terms.")
@click.option("--cut", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Seconds that cuts last.")
@click.option("--outage", type=click.FloatRange(min=1), default=600.0, show_default=True, help="Seconds without Redis.")
@click.option("--slow", type=click.FloatRange(min=1), default=120.0, show_default=True, help="Seconds of a slow Redis.")
@click.option(
    "--away", type=click.FloatRange(min=1), default=120.0, show_default=True, help="Seconds without a worker."
)
@click.option("--json", "--json-file", "json_file", type=click.Path(dir_okay=False, writable=True), help="Also here.")
@click.option("--logs", type=click.Path(file_okay=False, path_type=Path), help="Copy the logs of a failed row here.")
@click.option(
    "--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default=tempfile.gettempdir(),
    show_default=True, help="Where the clusters' temporary homes are made.",
)  # fmt: skip
def main(
    rows: tuple[str, ...], repeat: int | None, lease: str, cut: float, outage: float, slow: float, away: float,
    json_file: str | None, logs: Path | None, folder: Path,
) -> None:  # fmt: skip
    """Measure how long jobs stand still in each fault, and check that none runs twice at once, is lost or ended."""
    out = open_output("faults", json_file)
    out.line(machine_facts("faults", folder))
    found: dict[str, Sequence[Tally] | str] = {}
    problems: list[str] = []
    for name in rows or ROWS:
        row = ROWS[name]
        say(f"{name}: starting a cluster")
        try:
            with world_of(World(folder, lease, slow=row.slow, spare=row.spare), logs) as world:
                tallies = measure(name, world, Times(cut, outage, slow, away), repeat or row.repeat)
        except (BenchmarkFailed, ShunterError) as error:
            found[name] = str(error)
            problems.append(f"{name}: {error}")
            out.failed(name, str(error))
            continue
        found[name] = tallies
        problems += broken(name, row, tallies)
        sums = {field: sum(getattr(tally, field) for tally in tallies) for field in ("doublings", "lost", "requeues")}
        out.figure(name, "s", [tally.seconds for tally in tallies], lease=lease, aim=row.aim(lease), **sums)
    say(table(found, lease))
    if problems:
        raise BenchmarkFailed("".join(f"\n  {problem}" for problem in problems))


if __name__ == "__main__":
    run(main)
