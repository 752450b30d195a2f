"""How fast jobs go through: `python -m benchmarks.throughput`. See the README beside it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args

import click

from benchmarks.cluster import Bench, running
from benchmarks.counts import Monitor, Split, commands_of_scripts, script_names, sent_at_least, split
from benchmarks.facts import machine_facts
from benchmarks.options import AT_LEAST_ONE, common, run
from benchmarks.output import BenchmarkFailed, Output, open_output, say
from benchmarks.procs import cpu_by_role, machine_busy_s
from benchmarks.pyspy import ROLES, Recorder
from benchmarks.stats import rounded
from benchmarks.submitters import Kind, Submitted, submit_together
from shunter.domain.job import JobSpec, Priority

WARM_UP: Final = 40
MOST_JOBS: Final = 10_000
"""A round's events must all be kept until it is read back: the stream keeps about 50,000, a job makes four."""

JOB: Final = JobSpec(command=["/bin/true"], cwd="/", max_retries=0)


class Reading(NamedTuple):
    """All counters at one moment."""

    at: float
    calls: Counter[str]
    cpu_s: dict[str, float]
    busy_s: float


class Span(NamedTuple):
    """What happened between two readings."""

    seconds: float
    calls: Counter[str]
    cpu_s: dict[str, float]
    busy_s: float


class Round(NamedTuple):
    """One repetition. *makespan_s*: from the first submit to the last true end of a process."""

    makespan_s: float
    submit_s: float
    latencies_s: list[float]
    client_cpu_s: float
    span: Span


class Counted(NamedTuple):
    """The pass under MONITOR; *info_calls* is what INFO counted meanwhile, as a check."""

    split: Split
    info_calls: int
    jobs: int


class Plan(NamedTuple):
    """The options that say what is measured."""

    jobs: int
    repeat: int
    nodes: int
    gpus: int
    submitters: int
    kind: Kind
    batch: int
    shapes: int
    count_jobs: int
    idle_s: float
    profile: tuple[str, ...]
    profile_folder: Path


class Lane:
    """A cluster with *queued* jobs waiting behind busy GPUs, and the rounds that are run on it."""

    def __init__(self, bench: Bench, plan: Plan, queued: int) -> None:
        self._bench = bench
        self._plan = plan
        self.queued = queued
        self._standing = 0

    def prepare(self) -> None:
        """Fill the queue, warm up, and let everything settle."""
        bench, plan = self._bench, self._plan
        if self.queued:
            say(f"holding one GPU of each node; queueing {self.queued} jobs that need whole nodes")
            self._standing = bench.hold(1)
            for number, jobs in enumerate(_divided(self.queued, plan.shapes)):
                spec = JobSpec(
                    command=["/bin/true"], cwd="/", gpus=plan.gpus, memory_gib=number / 1024, priority=Priority.LOW
                )
                for start in range(0, jobs, 1000):
                    bench.client.submit_many([spec] * min(1000, jobs - start))
            self._standing += self.queued
            bench.wait_waiting(self.queued)
        submit_together(bench.share(JOB, WARM_UP), 2, "threads")
        bench.wait_active(self._standing)
        bench.follow()

    def idle(self) -> Span:
        """What the cluster costs while nothing changes."""
        before = self._read()
        time.sleep(self._plan.idle_s)
        return _span(before, self._read())

    def round(self, recorder: Recorder | None = None) -> Round:
        """Submit, run and check one repetition. Raises BenchmarkFailed when anything is not as it should be."""
        plan, bench = self._plan, self._bench
        readings: list[Reading] = []

        def before() -> None:
            if recorder is not None:
                recorder.start()
                time.sleep(2.0)
            readings.append(self._read())

        done = submit_together(bench.share(JOB, plan.jobs, plan.batch), plan.submitters, plan.kind, before)
        bench.wait_active(self._standing)
        span = _span(readings[0], self._read())
        if recorder is not None:
            _show_profile(recorder)
        ended_s = self._check(done)
        began_s = min(one.began_s for one in done)
        return Round(
            ended_s - began_s,
            max(one.ended_s for one in done) - began_s,
            [latency for one in done for latency in one.latencies_s],
            sum(one.cpu_s for one in done),
            span,
        )

    def _check(self, done: list[Submitted]) -> float:
        """Return when the last process ended, once every promise was seen to be kept."""
        bench, ids = self._bench, [job for one in done for job in one.ids]
        bench.follow()
        if len(set(ids)) != len(ids):
            raise BenchmarkFailed("two submissions were answered with the same id")
        bench.fail_on(bench.replay.check_succeeded(ids))
        held = set(bench.replay.holder.values()) & set(ids)
        bench.fail_on([f"job {job}: has ended and still holds a GPU" for job in sorted(held)])
        return max(bench.replay.ended[job].ended_s for job in ids)

    def count(self) -> Counted:
        """A shorter round under MONITOR."""
        plan, bench = self._plan, self._bench
        jobs = plan.count_jobs
        before, own = bench.probe.calls(), bench.probe.own.copy()
        with Monitor(str(bench.cluster.redis.socket)) as monitor:
            submit_together(bench.share(JOB, jobs, plan.batch), plan.submitters, plan.kind)
            bench.wait_active(self._standing)
            own = bench.probe.own - own
        calls = (bench.probe.calls() - before).total()
        bench.follow()
        seen = split(monitor.lines, script_names())
        seen.sent.subtract(own)
        shown = seen.sent.total() + seen.in_scripts.total()
        if abs(calls - shown) > 20 + calls / 50:
            raise BenchmarkFailed(f"Redis counted {calls} commands and MONITOR showed {shown}")
        return Counted(seen, calls, jobs)

    def _read(self) -> Reading:
        return Reading(time.monotonic(), self._bench.probe.calls(), cpu_by_role(self._bench.pids()), machine_busy_s())


def _divided(jobs: int, parts: int) -> list[int]:
    return [jobs // parts + (number < jobs % parts) for number in range(parts)]


def _span(before: Reading, after: Reading) -> Span:
    return Span(
        after.at - before.at,
        after.calls - before.calls,
        {role: after.cpu_s[role] - before.cpu_s[role] for role in before.cpu_s},
        after.busy_s - before.busy_s,
    )


def _show_profile(recorder: Recorder) -> None:
    say("share of samples in which it ran (own: not in something that it called)")
    for share in recorder.stop():
        say(f"  {share.total:6.1%} {share.own:6.1%}  {share.function}")
    say(f"all stacks are in {recorder.file}")


def emit(out: Output, lane: Lane, plan: Plan, idle: Span, rounds: list[Round], counted: Counted | None) -> None:
    """Write the figures of one lane."""
    jobs = plan.jobs
    how: dict[str, Any] = {
        "jobs": jobs, "queued": lane.queued, "submitters": f"{plan.submitters} {plan.kind}", "batch": plan.batch,
        "nodes": plan.nodes, "gpus_per_node": plan.gpus,
    }  # fmt: skip

    def figure(name: str, unit: str, samples: list[float], **more: Any) -> None:
        out.figure(name, unit, samples, **more, **how)

    figure("jobs_per_s", "jobs/s", [jobs / one.makespan_s for one in rounds])
    figure("submitted_per_s", "jobs/s", [jobs / one.submit_s for one in rounds])
    figure("drain_after_last_submit", "s", [one.makespan_s - one.submit_s for one in rounds])
    out.repeated("request_latency", "ms", [[s * 1000 for s in one.latencies_s] for one in rounds], **how)

    in_scripts = commands_of_scripts()
    counters: dict[str, Callable[[Span], int]] = {
        "redis_calls_per_job": lambda span: span.calls.total(),
        "redis_sent_per_job_at_least": lambda span: sent_at_least(span.calls, in_scripts),
    }
    for name, count in counters.items():
        idle_per_s = count(idle) / idle.seconds
        gross = [count(one.span) / jobs for one in rounds]
        net = [(count(one.span) - idle_per_s * one.span.seconds) / jobs for one in rounds]
        figure(name, "commands/job", gross)
        figure(f"{name}_without_idle", "commands/job", net, idle_per_s=rounded(idle_per_s))
    if counted is not None:
        _emit_counted(out, counted, how)

    for role in rounds[0].span.cpu_s:
        used = [one.span.cpu_s[role] for one in rounds]
        cores = [rounded(cpu / one.span.seconds) for cpu, one in zip(used, rounds, strict=True)]
        figure(
            "cpu_per_job", "ms/job", [cpu * 1000 / jobs for cpu in used], role=role, cores_by_repetition=cores,
            idle_cores=rounded(idle.cpu_s[role] / idle.seconds),
        )  # fmt: skip
    figure("cpu_per_job", "ms/job", [one.client_cpu_s * 1000 / jobs for one in rounds], role="clients")
    ours = [sum(one.span.cpu_s.values()) + one.client_cpu_s for one in rounds]
    figure("cpu_per_job", "ms/job", [cpu * 1000 / jobs for cpu in ours], role="all")
    others = [max(one.span.busy_s - cpu, 0.0) / one.span.seconds for one, cpu in zip(rounds, ours, strict=True)]
    figure("cores_used_by_others", "cores", others)


def _emit_counted(out: Output, counted: Counted, how: dict[str, Any]) -> None:
    jobs, seen = counted.jobs, counted.split
    how = {**how, "jobs": jobs}

    def per_job(calls: Counter[str]) -> dict[str, float]:
        return {name: rounded(count / jobs) for name, count in calls.most_common() if count > 0}

    out.figure(
        "monitored_sent_per_job", "commands/job", [seen.sent.total() / jobs], by_command=per_job(seen.sent), **how
    )
    by_script = {
        name: {"calls": rounded(calls / jobs), "commands": rounded(ran / jobs)}
        for name, (calls, ran) in seen.by_script.items()
    }
    out.figure(
        "monitored_in_scripts_per_job", "commands/job", [seen.in_scripts.total() / jobs],
        by_command=per_job(seen.in_scripts), by_script=by_script, **how,
    )  # fmt: skip


def measure(out: Output, plan: Plan, queued: int, folder: Path) -> None:
    """Run all repetitions on a cluster of their own, with *queued* jobs waiting."""
    with running(plan.nodes, plan.gpus, folder) as bench:
        lane = Lane(bench, plan, queued)
        lane.prepare()
        idle = lane.idle()
        rounds = []
        for number in range(plan.repeat):
            rounds.append(lane.round())
            rate = plan.jobs / rounds[-1].makespan_s
            say(f"repetition {number + 1}: {plan.jobs} jobs, {rate:.1f} jobs/s, all checks passed")
        counted = lane.count() if plan.count_jobs else None
        emit(out, lane, plan, idle, rounds, counted)
        for role in plan.profile:
            say(f"one more repetition, with py-spy on {role}")
            lane.round(Recorder(role, bench.pids()[role][0], plan.profile_folder / f"{role}.collapsed"))
        out.line(
            {
                "benchmark": "throughput", "figure": "checks", "queued": queued, "jobs_ended": len(bench.replay.ended),
                "events": dict(bench.replay.moves), "most_gpus_held_at_once": bench.replay.most_held, "violations": 0,
            }
        )  # fmt: skip


@click.command()
@click.option("--jobs", default=2000, show_default=True, type=click.IntRange(1, MOST_JOBS), help="Jobs a repetition.")
@click.option("--repeat", default=3, show_default=True, type=AT_LEAST_ONE, help="Repetitions.")
@click.option("--nodes", default=10, show_default=True, type=AT_LEAST_ONE, help="Node workers, each with a keeper.")
@click.option("--gpus", default=8, show_default=True, type=click.IntRange(min=2), help="Simulated GPUs of each node.")
@click.option("--submitters", default=4, show_default=True, type=AT_LEAST_ONE, help="Clients at once.")
@click.option("--kind", default="processes", show_default=True, type=click.Choice(get_args(Kind)), help="Their kind.")
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1, 1000), help="Jobs in one HTTP request.")
@click.option("--queued", multiple=True, default=(0,), show_default=True, type=click.IntRange(min=0),
              help="Jobs that wait behind busy GPUs meanwhile; repeatable, each on a cluster of its own.")  # fmt: skip
@click.option("--shapes", default=1, show_default=True, type=AT_LEAST_ONE, help="Different requests among the queued.")
@click.option("--count-jobs", default=200, show_default=True, type=click.IntRange(0, MOST_JOBS),
              help="Jobs of the extra pass under MONITOR; 0: none.")  # fmt: skip
@click.option("--idle-s", default=5.0, show_default=True, type=click.FloatRange(min=1), help="How long to idle first.")
@click.option("--profile", multiple=True, type=click.Choice(ROLES),
              help="One more repetition with py-spy on this role (the first node's); repeatable.")  # fmt: skip
@click.option("--profile-folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".",
              show_default=True, help="Where py-spy's stacks go, one file a role.")  # fmt: skip
@common
def throughput(queued: tuple[int, ...], folder: Path, json_file: str | None, **options: Any) -> None:
    """Run many short jobs on a cluster of simulated GPUs, and say how fast and at what cost.

    \b
    python -m benchmarks.throughput
    python -m benchmarks.throughput --batch 100
    python -m benchmarks.throughput --queued 10 --queued 10000
    python -m benchmarks.throughput --profile coordinator
    """
    plan = Plan(**options)
    out = open_output("throughput", json_file)
    out.line(machine_facts("throughput", folder))
    for depth in queued:
        measure(out, plan, depth, folder)


if __name__ == "__main__":
    run(throughput)
