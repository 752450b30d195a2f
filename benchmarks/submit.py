"""How long a submission takes, and how long until its job runs: `python -m benchmarks.submit`. See the README."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from benchmarks.cluster import Bench, running
from benchmarks.facts import machine_facts
from benchmarks.options import AT_LEAST_ONE, common, run
from benchmarks.output import BenchmarkFailed, Output, open_output, say
from benchmarks.submitters import Kind, submit_together
from shunter.domain.job import JobSpec

WARM_UP: Final = 20
START_TIMEOUT_S: Final = 30.0
STAMP: Final = 'date +%s%N > "$0.new" && mv "$0.new" "$0"'
"""The job's own first instruction; the rename makes the time appear whole."""

JOB: Final = JobSpec(command=["true"], cwd="/", max_retries=0)
STEPS: Final = (("submitted", "placed"), ("placed", "started"), ("submitted", "started"), ("started", "exited"))


class Plan(NamedTuple):
    """How many of each."""

    jobs: int
    repeat: int
    starts: int
    commands: int
    load_clients: int
    load_jobs: int
    load_kind: Kind
    nodes: int
    gpus: int


def stamp_argv(path: Path) -> list[str]:
    return ["/bin/sh", "-c", STAMP, str(path)]


def measure_start(out: Output, bench: Bench, plan: Plan) -> None:
    """Submit → start on an idle cluster, one job at a time; each has ended before the next is submitted."""
    folder = bench.home / "stamps"
    folder.mkdir()
    floor = [_bare_start(folder / f"bare-{number}") for number in range(20)]
    out.figure("bare_start", "ms", floor, what="the same command, started by this process")
    bench.follow()
    numbers = itertools.count()
    for _ in range(5):
        _one_start(bench, folder / f"warm-{next(numbers)}")
    samples, ids = [], []
    for number in range(plan.starts):
        job, latency = _one_start(bench, folder / f"job-{number}")
        samples.append(latency)
        ids.append(job)
    bench.follow()
    bench.fail_on(bench.replay.check_succeeded(ids))
    out.figure("submit_to_first_instruction", "ms", samples, what="client's call to the job's own clock")
    for first, then in STEPS:
        between = [(bench.replay.at_s[job][then] - bench.replay.at_s[job][first]) * 1000 for job in ids]
        out.figure(f"{first}_to_{then}", "ms", between, what="event stream, store's clock, whole milliseconds")


def _bare_start(path: Path) -> float:
    at = time.time_ns()
    subprocess.run(stamp_argv(path), check=True, stdin=subprocess.DEVNULL)
    return (int(path.read_text()) - at) / 1e6


def _one_start(bench: Bench, path: Path) -> tuple[int, float]:
    at = time.time_ns()
    job = bench.client.submit(command=stamp_argv(path), cwd="/", max_retries=0).id
    deadline = time.monotonic() + START_TIMEOUT_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"job {job} did not start within {START_TIMEOUT_S:g} s")
        time.sleep(0.002)
    bench.wait_active(0, every_s=0.01)
    time.sleep(0.05)  # the cluster is idle again
    return job, (int(path.read_text()) - at) / 1e6


def measure_http(out: Output, bench: Bench, plan: Plan) -> None:
    """One submission after the other through the SDK. The nodes are cordoned: nothing but submitting goes on."""
    rounds = []
    submit_together(bench.share(JOB, WARM_UP), 1, "threads")
    for number in range(plan.repeat):
        (done,) = submit_together(bench.share(JOB, plan.jobs), 1, "threads")
        rounds.append([latency * 1000 for latency in done.latencies_s])
        say(f"http: repetition {number + 1} done")
    out.repeated("http_submit", "ms", rounds, clients=1, cluster="cordoned")


def measure_command(out: Output, bench: Bench, plan: Plan) -> bool:
    """A fresh `shunter submit` each time. Returns whether that worked."""
    beside = Path(sys.executable).with_name("shunter")
    shunter = [str(beside)] if beside.exists() else [sys.executable, "-m", "shunter"]
    environment = {name: value for name, value in os.environ.items() if name not in ("SHUNTER_URL", "SHUNTER_TOKEN")}
    environment |= {"SHUNTER_HOME": str(bench.home)}
    python = [_command_ms([sys.executable, "-c", "pass"], environment) for _ in range(plan.commands)]
    out.figure("bare_python", "ms", python, what="python -c pass")
    try:
        _command_ms([*shunter, "submit", "--", "true"], environment)
        samples = [_command_ms([*shunter, "submit", "--", "true"], environment) for _ in range(plan.commands)]
    except subprocess.CalledProcessError as error:
        out.failed("command_submit", f"exit code {error.returncode}: {error.stderr.decode(errors='replace').strip()}")
        return False
    out.figure("command_submit", "ms", samples, what="shunter submit -- true, a fresh process, cluster cordoned")
    return True


def _command_ms(argv: list[str], environment: dict[str, str]) -> float:
    at = time.perf_counter()
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, capture_output=True, env=environment, cwd="/")
    return (time.perf_counter() - at) * 1000


def measure_load(out: Output, bench: Bench, plan: Plan) -> None:
    """Many clients at once while every GPU is busy and the queue grows."""
    bench.hold(plan.gpus)
    bench.follow()
    if len(bench.replay.holder) != plan.nodes * plan.gpus:
        raise BenchmarkFailed(f"{len(bench.replay.holder)} GPUs are busy, not all")
    rounds, rates = [], []
    for number in range(plan.repeat):
        done = submit_together(bench.share(JOB, plan.load_jobs), plan.load_clients, plan.load_kind)
        rounds.append([latency * 1000 for one in done for latency in one.latencies_s])
        rates.append(plan.load_jobs / (max(one.ended_s for one in done) - min(one.began_s for one in done)))
        say(f"load: repetition {number + 1} done")
    how: dict[str, Any] = {"clients": f"{plan.load_clients} {plan.load_kind}", "busy_gpus": plan.nodes * plan.gpus}
    out.repeated("http_submit_under_load", "ms", rounds, **how)
    out.figure("submitted_per_s_under_load", "jobs/s", rates, **how)


def empty_queue(bench: Bench) -> None:
    queued = [job.id for job in bench.client.jobs(states=["queued"])]
    if queued:
        bench.client.cancel(*queued)
    bench.wait_active(0)


@click.command()
@click.option("--jobs", default=1000, show_default=True, type=AT_LEAST_ONE, help="HTTP submissions a repetition.")
@click.option("--repeat", default=3, show_default=True, type=AT_LEAST_ONE, help="Repetitions.")
@click.option("--starts", default=50, show_default=True, type=AT_LEAST_ONE, help="Jobs from submit to start.")
@click.option("--commands", default=20, show_default=True, type=AT_LEAST_ONE, help="Runs of `shunter submit`.")
@click.option("--load-clients", default=8, show_default=True, type=AT_LEAST_ONE, help="Clients at once under load.")
@click.option("--load-jobs", default=1000, show_default=True, type=AT_LEAST_ONE, help="Their submissions in all.")
@click.option("--load-kind", default="threads", show_default=True, type=click.Choice(["threads", "processes"]),
              help="What they are. Threads share one Python, and wait for each other in it too.")  # fmt: skip
@click.option("--nodes", default=10, show_default=True, type=AT_LEAST_ONE, help="Node workers, each with a keeper.")
@click.option("--gpus", default=8, show_default=True, type=AT_LEAST_ONE, help="Simulated GPUs of each node.")
@common
def submit(folder: Path, json_file: str | None, **options: Any) -> None:
    """Say how long submissions take: over HTTP, by the command line, until the job starts, and under load.

    \b
    python -m benchmarks.submit
    python -m benchmarks.submit --load-kind processes
    """
    plan = Plan(**options)
    out = open_output("submit", json_file)
    out.line(machine_facts("submit", folder))
    with running(plan.nodes, plan.gpus, folder) as bench:
        measure_start(out, bench, plan)
        bench.cordon()
        time.sleep(1.0)
        measure_http(out, bench, plan)
        worked = measure_command(out, bench, plan)
        empty_queue(bench)
        bench.uncordon()
        measure_load(out, bench, plan)
        bench.follow()
    if not worked:
        raise BenchmarkFailed("command_submit was not measured")


if __name__ == "__main__":
    run(submit)
