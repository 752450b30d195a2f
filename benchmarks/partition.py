"""Part of a cluster on a replicated Redis is cut off, and goes on: one row of `benchmarks.takeover`. Needs root.

Three machines for Redis (a data server and a sentinel on each, or two members of a Redis Cluster), two with a
coordinator and a gateway each, and five nodes; all of them network namespaces. Cut off together are the machine that
serves, that of the leader, and two nodes with a job each: to themselves they look like a whole cluster.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.fault_world import World, ip
from benchmarks.faults import Scene, Times
from benchmarks.output import BenchmarkFailed
from benchmarks.slow_proxy import REDIS_PORT
from shunter.domain.lease import TERMS
from shunter.domain.report import JobView
from shunter.errors import NotFound, ShunterError, Unavailable
from shunter.local.redis_servers import RedisServers
from shunter.runtime.process import boot_time_s
from shunter.sdk.client import Client
from shunter.sdk.spec import make_spec
from shunter.store.deploy import MAX_LAG_S, Server, plan
from shunter.store.redis import Store
from shunter.store.routes import with_cluster

PASSWORD: Final = "secret"
MACHINES: Final = ("r1", "r2", "r3")
CLONE_NEWNET: Final = 0x40000000
ONCE: Final = 'echo "$SHUNTER_JOB_ID $SHUNTER_ATTEMPT" >>"$OUT"'
IN_FLIGHT_S: Final = 0.05
PAUSE_S: Final = 0.01
"""Between two submissions: what is judged is the cut, and their jobs have to run as well."""


class Apart(World):
    """A world on *mode* (sentinel or cluster), of which a part can be cut off."""

    def __init__(self, folder: Path, lease: str, mode: str, *, down_after_ms: int) -> None:
        super().__init__(folder, lease)
        self.mode = mode
        self.coordinators = {"c1": "c", "c2": "d"}
        self._places = {name: number for number, name in enumerate([*MACHINES, "c", "d", *self.nodes], 1)}
        self._down_after_ms = down_after_ms
        self._cut_off: tuple[str, ...] = ()
        self.clients: dict[str, Client] = {}
        self.servers: RedisServers

    def start_redis(self) -> None:
        hosts = [self.address(name) for name in MACHINES]
        made = plan(self.mode, hosts, port=REDIS_PORT, password=PASSWORD, down_after_ms=self._down_after_ms)
        self.servers = _Inside(self, made, self.home / "redis", PASSWORD)
        self.servers.write()
        self.servers.start_all(tied=True)
        terms = TERMS[self.lease]
        lag_s = int(
            terms.requeue_after_s - terms.fence_after_s - terms.freeze_within_s - 1 + self._down_after_ms / 1000
        )
        if self.mode == "sentinel" and lag_s < MAX_LAG_S:  # as `shunter deploy check` demands of short leases
            for name in self.servers.living():
                self.servers.do(name, "CONFIG", "SET", "min-replicas-max-lag", lag_s)

    def _roles_url(self) -> str:
        return self.servers.plan.url

    def _store_url(self) -> str:
        return with_cluster(self.servers.plan.url, self.cluster)

    def _start_control(self) -> None:
        for name, place in self.coordinators.items():
            self.start_role(name)
            self.clients[place] = self._start_gateway(f"gateway-{place}", place)
        self.client = self.clients["c"]
        bridge = f"{self._bridge}z"
        ip("link", "add", bridge, "type", "bridge")
        ip("link", "set", bridge, "up")

    def stop(self) -> None:
        for client in self.clients.values():
            client.close()
        with contextlib.suppress(AttributeError, ShunterError):
            self.servers.stop()
        super().stop()

    def serving(self) -> str:
        """Return the machine whose server serves."""
        with contextlib.closing(Store(self.store.url)) as store:
            host, _ = store.finder.master()
        return next(name for name in MACHINES if self.address(name) == host)

    def separate(self, names: Sequence[str]) -> None:
        """Give *names* a network of their own, without the others and this process."""
        self._cut_off = tuple(names)
        for name in names:
            ip("link", "set", self._port(name), "master", f"{self._bridge}z")

    def reunite(self) -> None:
        for name in self._cut_off:
            ip("link", "set", self._port(name), "master", self._bridge)

    def spread_masters(self) -> None:
        """Give every machine one master again: with two of three on one, the cluster could not lose that one."""
        self.servers.settle()
        if self.mode == "sentinel":
            return
        by_host = Counter(self._host_of(name) for name in self._masters())
        crowded = [self.servers.plan.named(name) for name in self._masters() if by_host[self._host_of(name)] > 1]
        for name in self.servers.living():
            if by_host[self._host_of(name)] == 0 and any(self._copies(name, master) for master in crowded):
                self._promote(name)
                break
        self.servers.settle()

    def _promote(self, name: str) -> None:
        self.servers.do(name, "CLUSTER", "FAILOVER")
        self.until(lambda: name in self._masters(), f"{name} to be a master")

    def _masters(self) -> list[str]:
        return [name for name in self.servers.living() if self.servers.do(name, "ROLE")[0] == b"master"]

    def _host_of(self, name: str) -> str:
        return self.servers.plan.named(name).host

    def _copies(self, name: str, master: Server) -> bool:
        role = self.servers.do(name, "ROLE")
        return role[0] == b"slave" and (role[1].decode(), role[2]) == (master.host, master.port)


class _Inside(RedisServers):
    """Servers that run in the networks of their machines."""

    def __init__(self, world: Apart, *args: Any) -> None:
        super().__init__(*args)
        self._world = world

    def command(self, server: Server, argv: list[str]) -> list[str]:
        place = next(name for name in MACHINES if self._world.address(name) == server.host)
        return self._world.inside(place, argv)


class Submission(NamedTuple):
    """When it was first tried and answered (boot time), and the answer."""

    began_s: float
    ended_s: float
    view: JobView


class Submitter(threading.Thread):
    """Submits small jobs to the gateway in *place*, from within its network, each until it is answered."""

    def __init__(self, world: Apart, place: str, out: Path) -> None:
        super().__init__(name=f"submitter-{place}", daemon=True)
        self._space = Path("/run/netns") / world.space(place)
        self._client = world.client_at(place)
        self._out = out
        self._stopping = threading.Event()
        self.accepted: list[Submission] = []
        self.start()

    def run(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with self._space.open() as space:
            if libc.setns(space.fileno(), CLONE_NEWNET) != 0:  # of this thread alone
                raise OSError(ctypes.get_errno(), "setns")
        with self._client as client:
            for number in itertools.count():
                if self._stopping.is_set():
                    return
                spec = make_spec({"command": ONCE, "gpus": 0, "cwd": "/", "env": {"OUT": str(self._out)}})
                began_s = boot_time_s()
                while True:
                    with contextlib.suppress(Unavailable):
                        view = client.submit(spec, idempotency_key=f"{self._out.name}-{self.name}-{number}")
                        break
                    time.sleep(0.02)
                self.accepted.append(Submission(began_s, boot_time_s(), view))
                self._stopping.wait(PAUSE_S)

    def stop(self) -> list[Submission]:
        self._stopping.set()
        self.join(90)
        if self.is_alive():
            raise BenchmarkFailed(f"{self.name} did not end")
        return self.accepted


class Cut(NamedTuple):
    """One repetition: seconds from the cut on, and what became of all submissions."""

    accepted_s: float
    started_s: float
    elsewhere_s: float
    doubled: int
    lost: int
    submissions: int
    unconfirmed: int
    unconfirmed_lost: int


def cut_off(world: Apart, number: int, cut_s: float) -> Cut:
    """Cut the part off for *cut_s*, or until its jobs run elsewhere, join it again, and judge."""
    world.spread_masters()
    leader = world.until(world.leader, "a leader")
    far, near = world.coordinators[leader], next(place for name, place in world.coordinators.items() if name != leader)
    world.client = world.clients[near]
    scene = Scene(world, Times(cut_s, 0, 0, 0), number)
    nodes = [node for _, node in scene.start(3)[:2]]
    before, out = world.incarnations(), world.storage / f"out-{number}"
    out.touch()
    here, there = Submitter(world, near, out), Submitter(world, far, out)
    world.until(lambda: min(len(here.accepted), len(there.accepted)) > 10, "submissions from both sides")
    began_s = boot_time_s()
    world.separate([world.serving(), far, *nodes])
    first = _first(world, here, lambda one: one.ended_s > began_s + IN_FLIGHT_S)
    later = _first(world, here, lambda one: one.began_s > began_s + IN_FLIGHT_S)
    world.until(lambda: world.client.job(later.view.id).started_s, "it to start")
    started_s = boot_time_s() - began_s
    elsewhere_s = max(scene.again_s(job) for job in scene.jobs[:2]) - began_s
    time.sleep(max(began_s + cut_s - boot_time_s(), 0.0))
    world.reunite()
    scene.anew(nodes, before)
    scene.back(nodes)
    rejoined_s = boot_time_s()
    _first(world, there, lambda one: one.began_s > rejoined_s)
    submissions = [*here.stop(), *there.stop()]
    world.servers.settle()
    lost, unconfirmed_lost, twice = _judge(world, submissions, out)
    tally = scene.settle(elsewhere_s)
    if tally.requeues != 2:
        raise BenchmarkFailed(f"{tally.requeues} jobs ran again, not the two of the nodes that were cut off")
    return Cut(
        first.ended_s - began_s, started_s, elsewhere_s, tally.doublings + twice, tally.lost + lost,
        len(submissions), sum(not one.view.confirmed for one in submissions), unconfirmed_lost,
    )  # fmt: skip


def _first(world: Apart, submitter: Submitter, rule: Callable[[Submission], bool]) -> Submission:
    found = world.until(lambda: next(filter(rule, list(submitter.accepted)), None), f"{submitter.name} to go on")
    assert found is not None
    return found


def _judge(world: Apart, submissions: Sequence[Submission], out: Path) -> tuple[int, int, int]:
    """Return how many confirmed ones are lost, how many others, and how many attempts ran twice."""
    kept: dict[int, JobView] = {}
    lost: Counter[bool] = Counter()
    for one in submissions:
        try:
            kept[one.view.id] = world.client.job(one.view.id)
        except NotFound:
            lost[one.view.confirmed] += 1
    if len(kept) + lost.total() != len(submissions):
        raise BenchmarkFailed("two submissions were given the same number")
    ended = {view.id: view for view in world.client.wait(*kept, timeout_s=90)}
    ran = Counter(tuple(map(int, line.split())) for line in out.read_text().splitlines())
    lost[True] += sum(view.state != "succeeded" or (id, view.attempt) not in ran for id, view in ended.items())
    strangers = {id for id, _ in ran} - set(ended)
    if strangers:
        raise BenchmarkFailed(f"jobs {sorted(strangers)[:5]} ran and were forgotten")
    return lost[True], lost[False], sum(times > 1 for times in ran.values())
