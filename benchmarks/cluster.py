"""A cluster of its own for a benchmark: real processes in a temporary home, gone afterwards whatever happens."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import structlog

from benchmarks.counts import Probe
from benchmarks.output import BenchmarkFailed, say
from benchmarks.replay import Replay
from benchmarks.submitters import Share
from shunter.domain.job import JobSpec, Priority
from shunter.errors import ShunterError
from shunter.local.cluster import LocalCluster, NodePlan

CLUSTER: Final = "bench"
HOLD_S: Final = 3600
"""How long a job that only holds GPUs lives at most, should nobody be left to end it."""


class Bench:
    """A running cluster and what a benchmark asks of it."""

    def __init__(self, home: Path, nodes: int, gpus: int) -> None:
        self.home = home
        self.names = [f"n{number}" for number in range(nodes)]
        self.gpus = gpus
        plans = [NodePlan(name, f"simulated:{gpus}") for name in self.names]
        self.cluster = LocalCluster(home, nodes=plans, cluster=CLUSTER)
        self.replay = Replay(dict.fromkeys(self.names, gpus))

    def start(self) -> None:
        self.cluster.start()
        self.client = self.cluster.client()
        self.probe = Probe(self.cluster.redis.url, CLUSTER)
        self.token = (self.home / "token").read_text().strip()

    # what runs

    def pids(self) -> dict[str, list[int]]:
        """Return the processes by role. Raises BenchmarkFailed if one of them has died."""
        found: dict[str, list[int]] = {"redis": [_pid(self.cluster.redis.process, "redis")]}
        for name, role in self.cluster.roles.items():
            kind = "nodes" if name.startswith("node-") else name
            found.setdefault(kind, []).append(_pid(role.process, name))
        found["keepers"] = self.keepers()
        if len(found["keepers"]) != len(self.names):
            raise BenchmarkFailed(f"{len(found['keepers'])} of {len(self.names)} keepers run; see {self.home}/nodes")
        return found

    def keepers(self) -> list[int]:
        """Return the processes that hold the keepers' locks, in the order of the nodes."""
        return [pid for name in self.names if (pid := _lock_holder(self.home / "nodes" / name / "keeper.lock"))]

    # what the benchmarks do with it

    def share(self, spec: JobSpec, jobs: int, batch: int = 1) -> Share:
        return Share(self.cluster.url, self.token, spec, jobs, batch)

    def wait_active(self, count: int, *, stalled_s: float = 60.0, every_s: float = 0.05) -> None:
        """Wait until only *count* jobs have not ended. Raises BenchmarkFailed when that number stands still."""
        last, since = -1, time.monotonic()
        while (now := self.probe.active()) > count:
            if now != last:
                last, since = now, time.monotonic()
            if time.monotonic() - since > stalled_s:
                raise BenchmarkFailed(f"{now} jobs have not ended, and none did in {stalled_s:g} s; see {self.home}")
            time.sleep(every_s)

    def wait_waiting(self, count: int) -> None:
        """Wait until the leader has seen *count* jobs that cannot start."""
        self.wait_until(lambda: self.probe.waiting() >= count, f"the leader to see {count} waiting jobs")

    def wait_until(self, true: Callable[[], bool], what: str, timeout_s: float = 120.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not true():
            if time.monotonic() > deadline:
                raise BenchmarkFailed(f"waited {timeout_s:g} s for {what}")
            time.sleep(0.05)

    def hold(self, per_node: int) -> int:
        """Hold *per_node* GPUs of every node by jobs that sleep; return how many jobs that are."""
        spec = JobSpec(
            command=["sleep", str(HOLD_S)], nodes=len(self.names), gpus=len(self.names), cwd="/", name="hold",
            priority=Priority.HIGH, time=f"{HOLD_S}s", grace=1,
        )  # fmt: skip
        for _ in range(per_node):
            self.client.submit(spec)
        wanted = per_node * len(self.names)
        self.wait_until(lambda: self._running("hold") == per_node, f"{wanted} GPUs to be held")
        return per_node

    def _running(self, name: str) -> int:
        return sum(1 for _ in self.client.jobs(states=["running"], name=name))

    def cordon(self) -> None:
        for name in self.names:
            self.client.cordon(name, "benchmark")

    def uncordon(self) -> None:
        for name in self.names:
            self.client.uncordon(name)

    def follow(self) -> None:
        """Feed the replay with what happened since the last call, and fail if it breaks a promise."""
        self.replay.feed(self.client.events(after=self.replay.cursor))
        self.fail_on(self.replay.problems)

    def fail_on(self, problems: list[str]) -> None:
        if problems:
            shown = "".join(f"\n  {problem}" for problem in problems[:20])
            raise BenchmarkFailed(f"{len(problems)} broken promises:{shown}")

    # the end

    def stop(self) -> None:
        """End jobs, roles, Redis and keepers. What does not end by itself is killed."""
        coordinator = self.cluster.roles.get("coordinator")
        if coordinator is not None:
            coordinator.stop()  # first, so that nothing new starts
        with contextlib.suppress(ShunterError, AttributeError):
            running = [job.id for job in self.client.jobs(states=["starting", "running", "stopping"])]
            if running:
                self.client.cancel(*running)
                self.client.wait(*running, timeout_s=10)
        self.cluster.stop()
        self.cluster.join_keepers()
        for pid in self.keepers():
            say(f"keeper {pid} does not end: killed, and its jobs with it")
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def running(nodes: int, gpus: int, folder: Path) -> Iterator[Bench]:
    """Start a cluster in a new folder below *folder*. SIGTERM ends it like Ctrl-C."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    before = signal.signal(signal.SIGTERM, _interrupt)
    home = Path(tempfile.mkdtemp(prefix="shunter-bench-", dir=folder))
    bench = Bench(home, nodes, gpus)
    say(f"starting Redis, a gateway, a coordinator and {nodes} nodes with {gpus} simulated GPUs each in {home}")
    try:
        bench.start()
        yield bench
    finally:
        say("stopping the cluster")
        at = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        bench.stop()
        shutil.rmtree(home, ignore_errors=True)
        signal.signal(signal.SIGINT, at[signal.SIGINT])
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _pid(process: Any, name: str) -> int:
    if process is None or process.poll() is not None:
        raise BenchmarkFailed(f"{name} has died, status {process and process.returncode}")
    return int(process.pid)


def _lock_holder(path: Path) -> int | None:
    """Return the process that wrote its id into the lock file *path* and still holds it."""
    try:
        with path.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except OSError:
        return int(path.read_text())
    return None
