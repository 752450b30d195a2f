"""How much memory a long queue costs: `python -m benchmarks.memory`. See the README beside it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final, get_args

import click

from benchmarks.cluster import Bench, running
from benchmarks.facts import machine_facts
from benchmarks.options import AT_LEAST_ONE, common, run
from benchmarks.output import Output, open_output, say
from benchmarks.procs import Memory, memory_of
from benchmarks.submitters import Kind, submit_together
from shunter.domain.job import JobSpec

SETTLE_S: Final = 3.0
ROLES: Final = ("redis", "gateway", "coordinator")


def read(bench: Bench) -> dict[str, Memory]:
    pids = bench.pids()
    return {role: memory_of(pids[role][0]) for role in ROLES}


def emit(out: Output, when: str, queued: int, memory: dict[str, Memory]) -> None:
    for role, one in memory.items():
        out.figure("pss", "MiB", [one.pss / 1024], role=role, when=when, queued=queued, private_mib=one.private // 1024)
    total = sum(one.pss for one in memory.values())
    out.figure("pss", "MiB", [total / 1024], role="redis + gateway + coordinator", when=when, queued=queued)
    say(
        f"{when}: {total / 1024:.1f} MiB = " + ", ".join(f"{role} {one.pss / 1024:.1f}" for role, one in memory.items())
    )


@click.command()
@click.option("--jobs", default=10_000, show_default=True, type=AT_LEAST_ONE, help="Jobs to queue.")
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1, 1000), help="Jobs in one HTTP request.")
@click.option("--submitters", default=4, show_default=True, type=AT_LEAST_ONE, help="Clients at once.")
@click.option("--kind", default="processes", show_default=True, type=click.Choice(get_args(Kind)), help="Their kind.")
@click.option("--env-bytes", default=0, show_default=True, type=click.IntRange(0, 65_536),
              help="Size of the environment that each job brings along.")  # fmt: skip
@common
def memory(
    jobs: int, batch: int, submitters: int, kind: Kind, env_bytes: int, folder: Path, json_file: str | None
) -> None:
    """Queue jobs on a cordoned node, and say what Redis, the gateway and the coordinator need before and after.

    \b
    python -m benchmarks.memory
    python -m benchmarks.memory --jobs 100000 --batch 1000
    """
    out = open_output("memory", json_file)
    out.line(machine_facts("memory", folder))
    spec = JobSpec(
        command=["python3", "train.py", "--seed", "12345678", "--out", "/srv/runs/12345678"],
        cwd="/srv/project", time="8h", env={"X": "x" * env_bytes} if env_bytes else {},
    )  # fmt: skip
    with running(1, 8, folder) as bench:
        bench.cordon()
        submit_together(bench.share(spec, 1), 1, "threads")  # everything has been used once
        bench.wait_waiting(1)
        time.sleep(SETTLE_S)
        before, used = read(bench), bench.probe.used_memory()
        emit(out, "before", 1, before)
        submit_together(bench.share(spec, jobs - 1, batch), submitters, kind)
        bench.wait_waiting(jobs)
        time.sleep(SETTLE_S)
        after = read(bench)
        emit(out, "after", jobs, after)
        for role in ROLES:
            grown = (after[role].pss - before[role].pss) * 1024 / jobs
            out.figure("pss_per_queued_job", "bytes", [grown], role=role, queued=jobs)
        per_job = (bench.probe.used_memory() - used) / jobs
        out.figure("redis_data_per_queued_job", "bytes", [per_job], queued=jobs, env_bytes=env_bytes, batch=batch)
        listed = sum(1 for _ in bench.client.jobs())
        emit(out, "after listing all of them once", listed, read(bench))


if __name__ == "__main__":
    run(memory)
