"""What it costs when Redis servers take over from one another: `python -m benchmarks.takeover`. See the README.

A whole cluster (two coordinators, two nodes, jobs that run all the time, one client that submits without a break) on a
Redis with Sentinel, and on a Redis Cluster of six, both as `shunter deploy redis` sets them up.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
from redis.crc import key_slot

from benchmarks.facts import machine_facts
from benchmarks.fault_world import world_of
from benchmarks.options import AT_LEAST_ONE
from benchmarks.output import BenchmarkFailed, say
from benchmarks.partition import Apart, Cut, cut_off
from benchmarks.stats import percentile, summary
from shunter.domain.report import JobView
from shunter.errors import Unavailable
from shunter.local.cluster import LocalCluster, NodePlan
from shunter.local.redis_servers import RedisServers
from shunter.sdk.client import Client
from shunter.sdk.spec import make_spec
from shunter.store.deploy import BUS, DOWN_AFTER_MS, plan
from shunter.store.redis import Store
from shunter.store.routes import with_cluster

PASSWORD: Final = "secret"
PATIENCE_S: Final = 90.0
IN_FLIGHT_S: Final = 0.05
"""An answer that comes so soon after the act was on its way before it."""
ONCE: Final = 'echo "$SHUNTER_JOB_ID" >>"$OUT"'
LONG: Final = 'until [ -e "$OUT.go" ]; do sleep 0.2; done'
ROWS: Final = ("master-killed", "rolling-restart", "slot-moved", "cut-off", "cost")


class Submitter:
    """One client that submits a small job whenever the last was answered, and tries each until it is."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stopping = threading.Event()
        self.accepted: list[tuple[float, float, JobView]] = []
        """When it was first tried, how long that took, and the answer."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._world.cluster.client() as client:
            while not self._stopping.is_set():
                spec = make_spec({"command": ONCE, "gpus": 0, "cwd": "/", "env": {"OUT": str(self._world.out)}})
                key, began_s = f"bench-{next(self._world.numbers)}", time.monotonic()
                while True:
                    with contextlib.suppress(Unavailable):
                        view = client.submit(spec, idempotency_key=key)
                        break
                    time.sleep(0.02)
                self.accepted.append((began_s, time.monotonic() - began_s, view))

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            raise BenchmarkFailed("the submitter did not end")


class World:
    """The cluster on *mode*, in a folder of its own."""

    def __init__(self, mode: str, home: Path, *, options: str = "") -> None:
        made = plan(mode, ["127.0.0.1"], port=0, ports=free_ports(6), password=PASSWORD)
        self.servers = RedisServers(made, home / "redis", PASSWORD)
        self.servers.write()
        self.servers.start_all(tied=True)
        nodes = [NodePlan(f"n{number}", "simulated:8", cpus=64) for number in (1, 2)]
        url = f"{made.url}{options}"
        self.cluster = LocalCluster(home / "home", nodes=nodes, redis=url, coordinators=2)
        self.store = Store(with_cluster(url, "main"))
        self.out = home / "out"
        self.out.touch()
        self.numbers = itertools.count()
        self.client: Client
        self.long: list[int] = []

    def start(self) -> None:
        self.cluster.start()
        self.client = self.cluster.client()
        for _ in range(4):
            self.long.append(self.client.submit(command=LONG, gpus=1, cwd="/", env={"OUT": str(self.out)}).id)
        eventually(lambda: all(view.started_s for view in map(self.client.job, self.long)), "long jobs to run")

    def close(self) -> None:
        self.cluster.stop()
        self.servers.stop()

    def master(self) -> str:
        _, port = self.store.finder.master()
        return next(one.name for one in self.servers.plan.servers if one.port == port)

    def check(self, accepted: Sequence[JobView]) -> None:
        """Fail unless all *accepted* ran once, by their own word."""
        ids = {view.id for view in accepted}
        views = self.client.wait(*ids, timeout_s=PATIENCE_S)
        ran = sorted(int(line) for line in self.out.read_text().split())
        lost, doubled = ids - set(ran), len(ran) - len(set(ran))
        if lost or doubled or any(view.state != "succeeded" for view in views) or len(ids) != len(accepted):
            raise BenchmarkFailed(f"lost: {sorted(lost)[:5]}, doubled: {doubled}, {len(accepted) - len(ids)} ids twice")
        self.out.write_text("")

    def check_long(self) -> None:
        """Fail unless the jobs that ran all the time were neither frozen nor started again."""
        Path(f"{self.out}.go").touch()
        for view in self.client.wait(*self.long, timeout_s=PATIENCE_S):
            frozen_s = view.outcome.frozen_s if view.outcome else -1.0
            if (view.state, view.retries, frozen_s) != ("succeeded", 0, 0.0):
                raise BenchmarkFailed(f"job {view.id}: {view.state}, {view.retries} retries, frozen for {frozen_s} s")


class Rep(NamedTuple):
    """Seconds until the next submission was accepted and the next job started; *latencies* of all, in seconds."""

    accepted_s: float
    started_s: float
    latencies: list[float]
    unconfirmed: int


def free_ports(count: int) -> list[int]:
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            one, bus = (stack.enter_context(socket.socket()) for _ in range(2))
            one.bind(("127.0.0.1", 0))
            with contextlib.suppress(OSError, OverflowError):
                bus.bind(("127.0.0.1", one.getsockname()[1] + BUS))
                found.append(one.getsockname()[1])
    return found


def eventually(ask: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(Unavailable, OSError):
            answer = ask()
            if answer:
                return answer
        time.sleep(0.01)
    raise BenchmarkFailed(f"waited {PATIENCE_S:g} s in vain for {what}")


def under_load(world: World, act: Callable[[], float]) -> Rep:
    """Do *act* while jobs are submitted; it returns when it happened (time.monotonic)."""
    submitter = Submitter(world)
    try:
        eventually(lambda: len(submitter.accepted) > 20, "submissions to flow")
        at_s = act()
        after = eventually(
            lambda: [one for one in list(submitter.accepted) if sum(one[:2]) > at_s + IN_FLIGHT_S], "a submission"
        )[0]
        later = eventually(lambda: [one for one in list(submitter.accepted) if one[0] > at_s], "a later one")[0]
        started_s = eventually(lambda: world.client.job(later[2].id).started_s, "it to start") and time.monotonic()
        world.servers.settle()
    finally:
        submitter.stop()
    accepted = submitter.accepted
    world.check([view for *_, view in accepted])
    late = [took for began, took, _ in accepted if began + took > at_s]
    return Rep(sum(after[:2]) - at_s, started_s - at_s, late, sum(not view.confirmed for *_, view in accepted))


def serves_another(world: World, name: str) -> bool:
    return world.master() != name


def kill_master(world: World) -> float:
    name = world.master()
    world.servers.kill(name)
    at_s = time.monotonic()
    eventually(lambda: world.master() != name, "another server to serve")
    world.servers.start(name, tied=True)
    return at_s


def restart_all(world: World) -> float:
    at_s = time.monotonic()
    for server in [one for one in world.servers.plan.servers if one.kind == "data"]:
        world.servers.stop(server.name)
        eventually(partial(serves_another, world, server.name), "another server to serve")
        world.servers.start(server.name, tied=True)
        world.servers.settle()
    return at_s


def move_slot(world: World) -> float:
    """Move the cluster's slot with its keys to the next master, as `redis-cli --cluster reshard` does."""
    servers, slot = world.servers, key_slot(b"{main}")
    source = world.master()
    masters = [name for name in servers.living() if servers.do(name, "ROLE")[0] == b"master"]
    target = next(name for name in masters if name != source)
    ids = {name: servers.do(name, "CLUSTER", "MYID") for name in masters}
    to = servers.plan.named(target)
    at_s = time.monotonic()
    servers.do(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
    servers.do(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    while keys := servers.do(source, "CLUSTER", "GETKEYSINSLOT", slot, 10):
        servers.do(source, "MIGRATE", to.host, to.port, "", 0, 5000, "AUTH", PASSWORD, "KEYS", *keys)
    for name in (target, source, *(name for name in masters if name not in (source, target))):
        servers.do(name, "CLUSTER", "SETSLOT", slot, "NODE", ids[target])
    return at_s


ACTS: Final[dict[str, Callable[[World], float]]] = {
    "master-killed": kill_master, "rolling-restart": restart_all, "slot-moved": move_slot,
}  # fmt: skip


@contextlib.contextmanager
def a_world(mode: str, *, options: str = "") -> Iterator[World]:
    home = Path(tempfile.mkdtemp(prefix="sb-", dir="/tmp"))
    world = World(mode, home, options=options)
    try:
        world.start()
        yield world
    finally:
        world.close()
        shutil.rmtree(home, ignore_errors=True)


def measure_row(row: str, mode: str, reps: int) -> dict[str, Any]:
    with a_world(mode) as world:
        found = []
        for number in range(reps):
            found.append(under_load(world, lambda: ACTS[row](world)))
            say(f"{row} {mode} {number + 1}: {found[-1].accepted_s:.2f} {found[-1].started_s:.2f}")
        world.check_long()
    latencies = [one for rep in found for one in rep.latencies]
    return {
        "row": row, "mode": mode, "repetitions": reps, "lost": 0, "doubled": 0, "frozen": 0,
        "next_submission_s": summary([rep.accepted_s for rep in found]),
        "next_start_s": summary([rep.started_s for rep in found]),
        "submissions": len(latencies), "submit_p99_ms": round(percentile(latencies, 99) * 1000, 1),
        "submit_max_ms": round(max(latencies) * 1000, 1), "unconfirmed": sum(rep.unconfirmed for rep in found),
    }  # fmt: skip


def measure_cut(mode: str, reps: int, lease: str, cut_s: float, logs: Path | None) -> dict[str, Any]:
    """A part with the master, the leader and two nodes is cut off for *cut_s*."""
    world = Apart(Path("/tmp"), lease, mode, down_after_ms=DOWN_AFTER_MS if lease == "normal" else 1_000)
    found = []
    with world_of(world, logs):
        for number in range(reps):
            found.append(cut_off(world, number, cut_s))
            say(f"cut-off {mode} {number + 1}: {found[-1]}")
            if found[-1].doubled or found[-1].lost:
                raise BenchmarkFailed(f"{found[-1].doubled} attempts ran twice, {found[-1].lost} jobs were lost")
    sums = ("doubled", "lost", "submissions", "unconfirmed", "unconfirmed_lost")
    seconds = {field: summary([getattr(one, field) for one in found]) for field in Cut._fields if field not in sums}
    counts = {field: sum(getattr(one, field) for one in found) for field in sums}
    return {"row": "cut-off", "mode": mode, "lease": lease, "cut_s": cut_s, "repetitions": reps, **seconds, **counts}


def measure_cost(reps: int) -> Iterator[dict[str, Any]]:
    """Submissions one after the other, and jobs per second from 8 clients, on each kind of store."""
    kinds = [("embedded", ""), *((mode, options) for mode in ("sentinel", "cluster") for options in ("?confirm=0", ""))]
    for kind, options in kinds:
        name = kind if kind == "embedded" else f"{kind}, {'without' if options else 'with'} WAIT"
        home = Path(tempfile.mkdtemp(prefix="sb-", dir="/tmp"))
        world = World(kind, home, options=options) if kind != "embedded" else None
        nodes = [NodePlan("n1", "simulated:8", cpus=64)]
        cluster = world.cluster if world else LocalCluster(home / "home", nodes=nodes)
        try:
            cluster.start()
            yield {"row": "cost", "store": name, **_cost(cluster, reps)}
        finally:
            world.close() if world else cluster.stop()
            shutil.rmtree(home, ignore_errors=True)


def _cost(cluster: LocalCluster, reps: int) -> dict[str, Any]:
    spec = make_spec({"command": "true", "gpus": 0, "cwd": "/"})
    one, rates = [], []
    with cluster.client() as client:
        for _ in range(50 + 200 * reps):
            at_s = time.perf_counter()
            client.submit(spec)
            one.append((time.perf_counter() - at_s) * 1000)
        client.wait(*(view.id for view in client.jobs()), timeout_s=PATIENCE_S)
        for _ in range(reps):
            at_s = time.perf_counter()
            views = client.submit_many([spec] * 500)
            client.wait(*(view.id for view in views), timeout_s=PATIENCE_S)
            rates.append(500 / (time.perf_counter() - at_s))
    return {
        "submit_ms": summary(one[50:]),
        "jobs_per_s": summary(rates),
    }


@click.command()
@click.option("--row", "rows", type=click.Choice(ROWS), multiple=True, default=ROWS, help="Only these (repeatable).")
@click.option(
    "--mode", "modes", type=click.Choice(["sentinel", "cluster"]), multiple=True, default=("sentinel", "cluster")
)
@click.option("--repeat", type=AT_LEAST_ONE, default=20, show_default=True)
@click.option("--lease", type=click.Choice(["normal", "fast"]), default="normal", help="The nodes' terms, for cut-off.")
@click.option("--cut", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Seconds, for cut-off.")
@click.option(
    "--logs", type=click.Path(file_okay=False, path_type=Path), help="Copy the logs of a failed cut-off here."
)
@click.option("--json", "file", type=click.File("w"), help="Write the lines here, too.")
def main(
    rows: tuple[str, ...], modes: tuple[str, ...], repeat: int, lease: str, cut: float, logs: Path | None, file: Any
) -> None:
    """Kill, restart and move Redis servers under load, and say what that cost."""

    def tell(fields: dict[str, Any]) -> None:
        print(json.dumps(fields), flush=True)
        if file is not None:
            print(json.dumps(fields), file=file, flush=True)

    tell(machine_facts("takeover", Path("/tmp")))
    for row in rows:
        if row == "cost":
            for fields in measure_cost(min(repeat, 5)):
                tell(fields)
            continue
        for mode in modes:
            if row == "cut-off":
                tell(measure_cut(mode, repeat, lease, cut, logs))
            elif row != "slot-moved" or mode == "cluster":
                tell(measure_row(row, mode, repeat))


if __name__ == "__main__":
    main()
