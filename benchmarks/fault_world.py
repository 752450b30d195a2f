"""A cluster over TCP in network namespaces, and the hands laid on it: kill, stop, cut, delay, empty. Needs root.

Redis, the coordinators with a gateway, and each node have a namespace of their own; all hang on one bridge. Everything
is gone afterwards, whatever happens.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Final, TypeVar

import psutil

from benchmarks.output import BenchmarkFailed
from benchmarks.slow_proxy import REDIS_PORT, SLOW_PORT
from shunter.domain.ids import NodeName
from shunter.domain.lease import Mark
from shunter.errors import Unavailable
from shunter.runtime.process import tied_to_parent
from shunter.sdk.client import Client
from shunter.store import leases
from shunter.store.embedded import find_server
from shunter.store.keys import Keys
from shunter.store.redis import Store

T = TypeVar("T")
W = TypeVar("W", bound="World")

NODES: Final = 5
GPUS: Final = 2
CPUS: Final = 64
"""What nodes say they have: no fault is about cores, and the machine may have few."""

REDIS, CONTROL = "r", "c"
NOBODY: Final = "02:00:00:00:00:fe"
"""A hardware address that no one has: what is sent there is dropped, and the sender hears nothing of it."""

ENOUGH_S: Final = 90.0
"""How long anything may take before a row fails for it."""

GATEWAY_PORT: Final = 8470

_worlds = count(1)


class World:
    """*lease* is what the nodes are told. *slow*: all reach Redis through a proxy, which `slow_down` makes slow."""

    def __init__(self, folder: Path, lease: str, *, slow: bool = False, spare: int = 0) -> None:
        number = next(_worlds)
        self.home = Path(tempfile.mkdtemp(prefix="sh-", dir=folder))
        self.storage = self.home / "storage"
        self.logs = self.home / "logs"
        for path in (self.storage, self.logs, self.home / "redis"):
            path.mkdir()
        self.lease = lease
        self.slow = slow
        self.cluster = f"faults-{os.getpid()}-{number}"
        self.keys = Keys(self.cluster)
        self.nodes = [f"n{index}" for index in range(1, NODES + 1)]
        self.spares = [f"n{index}" for index in range(NODES + 1, NODES + 1 + spare)]
        self.roles: dict[str, subprocess.Popen[bytes]] = {}
        self._tag = f"{os.getpid()}x{number}"
        self._bridge = f"sh{self._tag}"
        net = (16 * os.getpid() + number) % (50 * 250)
        self._net = f"10.{200 + net // 250}.{net % 250}"
        self.coordinators = dict.fromkeys(("c1", "c2"), CONTROL)
        self._places = {name: index for index, name in enumerate([REDIS, CONTROL, *self.nodes, *self.spares], 1)}
        self._delay = self.home / "delay"
        self._undo: dict[str, tuple[str, ...]] = {}
        self.client: Client
        self.store: Store

    # up and down

    def start(self) -> None:
        sweep_the_dead()
        ip("link", "add", self._bridge, "type", "bridge")
        ip("addr", "add", f"{self._net}.254/24", "dev", self._bridge)
        ip("link", "set", self._bridge, "up")
        for name in self._places:
            self._wire(name)
        self.start_redis()
        if self.slow:
            self._spawn("proxy", REDIS, [sys.executable, "-m", "benchmarks.slow_proxy", str(self._delay)])
        self.store = Store(self._store_url())
        self._start_control()
        for name in self.nodes:
            self.start_role(name)
        self.until(lambda: self.ready() and self.leader(), "all nodes and a leader")

    def _store_url(self) -> str:
        """Where this process finds Redis: never through the proxy."""
        return f"redis://{self.address(REDIS)}:{REDIS_PORT}/0"

    def _start_control(self) -> None:
        for name in ("c1", "c2"):
            self.start_role(name)
        self.client = self._start_gateway("gateway", CONTROL)

    def _start_gateway(self, name: str, place: str) -> Client:
        listen = ["--host", self.address(place), "--port", str(GATEWAY_PORT)]
        self._role(name, place, ["shunter.gateway", *listen], self.home / place)
        self.until((self.home / place / "token").exists, f"the token of {name}")
        return self.client_at(place)

    def client_at(self, place: str) -> Client:
        """Return a client of the gateway in *place*."""
        token = self.home / place / "token"
        return Client(f"http://{self.address(place)}:{GATEWAY_PORT}", token.read_text().strip(), timeout_s=10)

    def _wire(self, name: str) -> None:
        space, port = self.space(name), self._port(name)
        ip("netns", "add", space)
        ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space)
        ip("link", "set", port, "master", self._bridge, "up")
        ip("-n", space, "addr", "add", f"{self.address(name)}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            ip("-n", space, "link", "set", link, "up")

    def stop(self) -> None:
        """End all processes, then take the network and the folder away; what fails is passed over."""
        with contextlib.suppress(AttributeError):
            self.client.close()
            self.store.close()
        nodes = [*self.nodes, *self.spares]
        for name in self.roles:
            self.kill(name)
        _kill(map(self.keeper, nodes))  # their guardians end the rest, and take the cgroups away
        sweep(self._tag, patience_s=3.0)
        shutil.rmtree(self.home, ignore_errors=True)

    # roles

    def start_role(self, name: str) -> None:
        """Start a coordinator (c1, c2) or a node's worker, again if it has ended."""
        if name in self.coordinators:
            place = self.coordinators[name]
            self._role(name, place, ["shunter.coordinator", "--name", name], self.home / place)
            return
        options = ["--gpus", f"simulated:{GPUS}", "--cpus", str(CPUS), "--lease", self.lease]
        argv = ["shunter.agent", "--name", name, *options, "--address", self.address(name)]
        self._role(name, name, argv, self.home / name)

    def _role(self, name: str, place: str, argv: list[str], home: Path) -> None:
        storage = [] if argv[0] == "shunter.coordinator" else ["--storage", str(self.storage)]
        common = ["--redis", self._roles_url(), "--cluster", self.cluster, "--home", str(home)]
        self._spawn(name, place, [sys.executable, "-m", *argv, *common, *storage])

    def _roles_url(self) -> str:
        return f"redis://{self.address(REDIS)}:{SLOW_PORT if self.slow else REDIS_PORT}/0"

    def inside(self, place: str, argv: list[str]) -> list[str]:
        """Return the command that runs *argv* in the network of *place*."""
        return [shutil.which("nsenter") or "nsenter", f"--net=/run/netns/{self.space(place)}", *argv]

    def _spawn(self, name: str, place: str, argv: list[str]) -> None:
        env = {key: value for key, value in os.environ.items() if not key.startswith("SHUNTER_")}
        with (self.logs / f"{name}.log").open("ab") as out:
            self.roles[name] = subprocess.Popen(
                tied_to_parent(self.inside(place, argv), os.getpid()), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env=env, start_new_session=True, cwd=Path(__file__).parent.parent,
            )  # fmt: skip

    def start_redis(self) -> None:
        settings = {
            "bind": "0.0.0.0", "protected-mode": "no", "port": str(REDIS_PORT), "dir": str(self.home / "redis"),
            "appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction",
        }  # fmt: skip
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        self._spawn("redis", REDIS, [str(find_server()), *options])

    def stop_redis(self) -> None:
        """Shut Redis down: its port refuses from now on."""
        self.leave("redis")

    def empty_redis(self) -> None:
        """Restart Redis without its data, which is kept aside."""
        self.kill("redis")
        (self.home / "redis").rename(self.home / "kept")
        (self.home / "redis").mkdir()
        self.start_redis()

    def refill_redis(self) -> None:
        self.kill("redis")
        shutil.rmtree(self.home / "redis")
        (self.home / "kept").rename(self.home / "redis")
        self.start_redis()

    def kill(self, name: str) -> None:
        self._end(name, signal.SIGKILL)

    def leave(self, name: str) -> None:
        self._end(name, signal.SIGTERM)

    def _end(self, name: str, number: signal.Signals) -> None:
        self.roles[name].send_signal(number)
        self.roles[name].wait()

    def freeze(self, name: str) -> None:
        self.roles[name].send_signal(signal.SIGSTOP)

    def revive(self, name: str) -> None:
        """Have a role that was stopped or killed go on, or begin anew."""
        if self.roles[name].poll() is None:
            self.roles[name].send_signal(signal.SIGCONT)
        else:
            self.start_role(name)

    def kill_keeper(self, node: str) -> None:
        _kill([self.keeper(node)])

    # processes

    def keeper(self, node: str) -> int:
        """Return the keeper's pid, 0 if there is none."""
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            pid = int((self.home / node / "nodes" / node / "keeper.lock").read_text())
            if "shunter.agent.keeper" in psutil.Process(pid).cmdline():
                return pid
        return 0

    def whole_node(self, node: str) -> list[int]:
        """Return every process of *node*: worker, keeper, fence, guardian, jobs."""
        found = {self.roles[node].pid} if node in self.roles and self.roles[node].poll() is None else set()
        found |= {self.keeper(node)} - {0}
        for pid in list(found):
            with contextlib.suppress(psutil.Error):
                found |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
        return sorted(found)

    def kill_node(self, node: str) -> None:
        """As if its machine lost power: stop all first, so that none sees another die."""
        pids = self.whole_node(node)
        _kill(pids, signal.SIGSTOP)
        _kill(pids)
        self.roles[node].wait()

    def members(self) -> set[int]:
        """Return the living main processes of this cluster's jobs."""
        found = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                ours = process.environ().get("SHUNTER_MEMBER", "").startswith(f"{self.cluster}:")
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.add(process.pid)
        return found

    # the network

    def space(self, name: str) -> str:
        return f"sh-{self._tag}-{name}"

    def address(self, name: str) -> str:
        return f"{self._net}.{self._places[name]}"

    def _port(self, name: str) -> str:
        return f"{self._bridge}{name}"

    def cut(self, name: str) -> None:
        """Cut the namespace *name* off, both ways, like a cable that is out: nobody is told."""
        ip("link", "set", self._port(name), "down")
        self._undo[name] = ("link", "set", self._port(name), "up")

    def cut_out(self, node: str) -> None:
        """Lose what *node* sends to Redis."""
        self._lose(node, node, REDIS)

    def cut_in(self, node: str) -> None:
        """Lose what Redis sends to *node*."""
        self._lose(node, REDIS, node)

    def _lose(self, node: str, at: str, to: str) -> None:
        entry = ("-n", self.space(at), "neigh"), (self.address(to), "dev", "eth0")
        ip(*entry[0], "replace", *entry[1], "lladdr", NOBODY, "nud", "permanent")
        self._undo[node] = (*entry[0], "del", *entry[1])

    def mend(self, name: str) -> None:
        ip(*self._undo.pop(name))

    def cut_all(self) -> None:
        for node in self.nodes:
            self.cut(node)

    def mend_all(self) -> None:
        for name in list(self._undo):
            self.mend(name)

    def slow_down(self) -> None:
        """Have the proxy hold back what Redis answers: for longer than a renewal waits."""
        self._delay.touch()

    def speed_up(self) -> None:
        self._delay.unlink()

    # what it says

    def until(self, look: Callable[[], T], what: str, within_s: float = ENOUGH_S) -> T:
        """Return the first answer of *look* that is true. Raises BenchmarkFailed after *within_s*."""
        deadline = time.monotonic() + within_s
        while True:
            with contextlib.suppress(Unavailable):
                if answer := look():
                    return answer
            if time.monotonic() > deadline:
                raise BenchmarkFailed(f"not within {within_s:g} s: {what}")
            time.sleep(0.02)

    def leader(self) -> str:
        return self.client.cluster().leader

    def ready(self, nodes: Iterable[str] | None = None) -> bool:
        """Whether all *nodes* (default: those of the start) take work."""
        states = {str(view.node.name): view.state for view in self.client.nodes()}
        return all(states.get(name) == "ready" for name in nodes or self.nodes)

    def incarnations(self) -> dict[str, str]:
        return {str(view.node.name): str(view.node.incarnation) for view in self.client.nodes()}

    def mark(self, node: str) -> Mark:
        """Return what the store holds of the last renewal of *node*, asked past the gateway."""
        return self.store.run(leases.watch(self.keys)).marks[NodeName(node)]


@contextlib.contextmanager
def world_of(world: W, logs: Path | None) -> Iterator[W]:
    """Run *world* for the block. Its logs are copied to *logs* if the block fails."""
    try:
        world.start()
        yield world
    except Exception:
        if logs is not None:
            shutil.copytree(world.logs, logs / world.cluster, dirs_exist_ok=True)
        raise
    finally:
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
        world.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


def ip(*arguments: str, must: bool = True) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if must and done.returncode != 0:
        raise BenchmarkFailed(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def sweep(tag: str, patience_s: float = 0.0) -> None:
    """Take away the network of the world *tag*, once nothing runs in it or, after *patience_s*, by force."""
    before = f"sh-{tag}-"
    spaces = [space for space in _spaces() if space.startswith(before)]
    deadline = time.monotonic() + patience_s
    while (left := _inside(spaces)) and time.monotonic() < deadline:
        time.sleep(0.02)
    _kill(left)
    for space in spaces:
        ip("link", "del", f"sh{tag}{space.removeprefix(before)}", must=False)
        ip("netns", "del", space, must=False)
    for bridge in (f"sh{tag}", f"sh{tag}z"):
        ip("link", "del", bridge, must=False)


def sweep_the_dead() -> None:
    """Do so for every world whose process was killed."""
    found = [re.match(r"sh-((\d+)x\d+)-", space) for space in _spaces()]
    for tag, pid in {(match[1], int(match[2])) for match in found if match}:
        if not psutil.pid_exists(pid):
            sweep(tag)


def _spaces() -> list[str]:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in listed.splitlines()]


def _inside(spaces: Iterable[str]) -> list[int]:
    """Return the processes in these network namespaces."""
    texts = [subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True, check=False).stdout
             for space in spaces]  # fmt: skip
    return [int(pid) for text in texts for pid in text.split()]


def _kill(pids: Iterable[int], number: signal.Signals = signal.SIGKILL) -> None:
    for pid in pids:
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
