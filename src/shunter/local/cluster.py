"""All roles of a cluster as processes of this machine: what `shunter up` and `shunter demo` run.

Each role is the same process that it is on a machine of its own. They end with us (the kernel sees to it), are started
again when they die, and hold no state: what matters is in Redis, with the keepers, and in the storage folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Final

import structlog
from msgspec import Struct

from shunter.agent.traits import Traits
from shunter.domain.ids import Incarnation
from shunter.domain.node import Node
from shunter.errors import Conflict, SetupError, ShunterError
from shunter.gateway.auth import load_or_make_token
from shunter.runtime.process import tied_to_parent
from shunter.sdk.client import Client
from shunter.store import commands
from shunter.store.embedded import EmbeddedRedis
from shunter.store.identity import Identity, home_record, node_record
from shunter.store.keys import Keys
from shunter.store.redis import Store

READY_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 15.0
LOCK_TIMEOUT_S: Final = 0.5
HEALTHY_AFTER_S: Final = 30.0
BACKOFF_CAP_S: Final = 10.0
CHECK_S: Final = 0.2

SAID_BY_US: Final = frozenset({"SHUNTER_REDIS", "SHUNTER_URL", "SHUNTER_POOL", "SHUNTER_RACK", "SHUNTER_LABELS"})
"""Variables that the roles do not get: what they say is another cluster's, or was read by `up` and is passed on."""

log = structlog.get_logger("up")


class NodePlan(Struct, frozen=True):
    """A node to run here: its *name* and GPU source, the cores that it offers (None: all), and what it is called."""

    name: str
    gpus: str
    cpus: int | None = None
    traits: Traits = Traits()


class Role:
    """One process, started again when it dies; its output goes to *log_file*."""

    def __init__(self, name: str, argv: list[str], env: dict[str, str], log_file: Path) -> None:
        self.name = name
        self.log_file = log_file
        self._argv = argv
        self._env = env
        self._failures = 0
        self._started_at = 0.0
        self._retry_at = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log_file.open("ab") as out:
            self.process = subprocess.Popen(
                tied_to_parent(self._argv, os.getpid()),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self._env,
                start_new_session=True,
            )
        self._started_at = time.monotonic()

    def revive(self) -> None:
        """Start it again if it died, after a pause that grows while it keeps dying."""
        if self.process is None or self.process.poll() is None:
            return
        now = time.monotonic()
        if self._retry_at == 0.0:
            self._failures = 0 if now - self._started_at > HEALTHY_AFTER_S else self._failures + 1
            pause = 0.0 if self._failures <= 1 else min(0.2 * 2**self._failures, BACKOFF_CAP_S)
            self._retry_at = now + pause
            log.warning("role died", name=self.name, status=self.process.returncode, again_in_s=round(pause, 1))
        if now >= self._retry_at:
            self._retry_at = 0.0
            self.start()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def join(self, deadline: float) -> None:
        if self.process is None:
            return
        try:
            self.process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def tail(self, lines: int = 5) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])
        return ""


class LocalCluster:
    """The roles of the home *home*. Use as a context manager, or call `start()` and `stop()`.

    *redis* is the URL of a Redis that runs elsewhere; without it the home has its own.
    """

    def __init__(
        self,
        home: Path,
        *,
        nodes: Iterable[NodePlan],
        host: str = "127.0.0.1",
        port: int = 0,
        cluster: str = "main",
        policy: str | None = None,
        redis: str | None = None,
        coordinators: int = 1,
    ) -> None:
        self.home = home
        self.cluster = cluster
        self.nodes = tuple(nodes)
        self._host = host
        self._port = port
        self._policy = policy
        self._lock: IO[str] | None = None
        self._stopping = threading.Event()
        self.redis = EmbeddedRedis(home / "redis")
        self.redis_url = redis or self.redis.url
        self._embedded = redis is None
        self._coordinators = coordinators
        self.roles: dict[str, Role] = {}
        self.url = ""

    def __enter__(self) -> LocalCluster:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything and wait until all nodes have joined.

        Raises Conflict if the home is up, SetupError if it fails, ForeignStore if Redis has lost the home's data set.
        """
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._take_lock()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        port = self._port or _free_port(self._host)
        _check_port(self._host, port)
        shown = "127.0.0.1" if self._host in ("0.0.0.0", "::") else self._host
        self.url = f"http://{shown}:{port}"
        logs = self.home / "logs"
        logs.mkdir(exist_ok=True)
        if self._embedded:
            self.redis.start(log=logs / "redis.log")
        earlier = self._incarnations()
        load_or_make_token(self.home / "token")
        env = {name: value for name, value in os.environ.items() if name not in SAID_BY_US}
        env |= {"SHUNTER_HOME": str(self.home), "SHUNTER_CLUSTER": self.cluster}
        if not self._embedded:
            env["SHUNTER_REDIS"] = self.redis_url  # not an argument: it may have a password, and `ps` shows those
        common = ["--home", str(self.home), "--cluster", self.cluster]
        commands = {
            "gateway": ["shunter.gateway", "--host", self._host, "--port", str(port)],
        }
        for number in range(1, self._coordinators + 1):
            name = "coordinator" if number == 1 else f"coordinator-{number}"
            commands[name] = ["shunter.coordinator", *(["--policy", self._policy] if self._policy else [])]
        for node in self.nodes:
            cpus = ["--cpus", str(node.cpus)] if node.cpus else []
            options = [*cpus, *node.traits.options()]
            commands[f"node-{node.name}"] = ["shunter.agent", "--name", node.name, "--gpus", node.gpus, *options]
        for name, argv in commands.items():
            role = Role(name, [sys.executable, "-m", *argv, *common], env, logs / f"{name}.log")
            self.roles[name] = role
            role.start()
        self._wait_ready(earlier)
        endpoint = {"url": self.url, "pid": os.getpid(), "cluster": self.cluster, "started_s": time.time()}
        path = self.home / "endpoint.json"
        path.with_suffix(".new").write_text(json.dumps(endpoint) + "\n")
        path.with_suffix(".new").replace(path)

    def _take_lock(self) -> None:
        self._lock = (self.home / "up.lock").open("a+")
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                # Who only asks who runs here holds it too, for a moment.
                if time.monotonic() > deadline:
                    self._lock.close()
                    self._lock = None
                    raise running_already(self.home) from None
                time.sleep(0.02)
        self._lock.truncate(0)
        self._lock.write(f"{os.getpid()}\n")
        self._lock.flush()

    def client(self) -> Client:
        return Client(self.url, (self.home / "token").read_text().strip())

    def _incarnations(self) -> frozenset[Incarnation]:
        """Return the incarnations that joined before this start: the store knows them, and they are no more.

        Raises ForeignStore if the roles would refuse this Redis: better now than as nodes that never join.
        """
        keys, home = Keys(self.cluster), home_record(self.home, self.cluster)
        nodes = [node_record(self.home / "nodes" / node.name) for node in self.nodes]
        found: list[Node] = []
        for path in [*(path for path in nodes if path.exists()), home]:  # the home last: without a record it makes one
            store = Store(self.redis_url, identity=Identity(keys, path))
            try:
                found = store.run(commands.nodes(keys))
            finally:
                store.close()
        return frozenset(node.incarnation for node in found)

    def _wait_ready(self, earlier: frozenset[Incarnation]) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        wanted = {node.name for node in self.nodes}
        with self.client() as client:
            while True:
                for role in self.roles.values():
                    if role.process is not None and role.process.poll() is not None:
                        raise SetupError(f"{role.name}: did not start:\n{role.tail()}", fix=f"see {role.log_file}")
                if _answers(self._host, self.url):
                    with contextlib.suppress(ShunterError):
                        ready = {view.node.name for view in client.nodes() if view.node.incarnation not in earlier}
                        if wanted <= ready and client.cluster().leader:
                            return
                if time.monotonic() > deadline:
                    raise SetupError(f"not ready within {READY_TIMEOUT_S:g} s", fix=f"see {self.home / 'logs'}")
                time.sleep(0.05)

    def watch(self) -> None:
        """Keep the roles alive until `stop()`. Redis is a role like any other: it comes back with all that it had."""
        while not self._stopping.wait(CHECK_S):
            if self.redis.process is not None and self.redis.process.poll() is not None:
                log.warning("redis died", status=self.redis.process.returncode)
                with contextlib.suppress(SetupError):
                    self.redis.start(log=self.home / "logs" / "redis.log")
            for role in self.roles.values():
                role.revive()

    def stop(self) -> None:
        """End the roles, Redis last. Jobs go on under their keepers."""
        self._stopping.set()
        (self.home / "endpoint.json").unlink(missing_ok=True)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for role in self.roles.values():
            role.stop()
        for role in self.roles.values():
            role.join(deadline)
        self.redis.stop()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def join_keepers(self, timeout_s: float = 10.0) -> None:
        """Wait until the nodes' keepers have ended, which they do once they have nothing to keep."""
        deadline = time.monotonic() + timeout_s
        for path in (self.home / "nodes").glob("*/keeper.lock"):
            with path.open("a") as lock:
                while time.monotonic() < deadline:
                    with contextlib.suppress(OSError):
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    time.sleep(0.05)


def holder(home: Path) -> int | None:
    """Return the pid of the `up` that runs in *home*, None if none does: its lock says so, no file does."""
    try:
        with (home / "up.lock").open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return int(lock.read() or 0) or None
    except (OSError, ValueError):
        pass
    return None


def endpoint(home: Path) -> dict[str, str | int | float]:
    """Return where the `up` of *home* answers, {} if none runs or it is not ready yet."""
    pid = holder(home)
    with contextlib.suppress(OSError, ValueError):
        found: dict[str, str | int | float] = json.loads((home / "endpoint.json").read_text())
        if found["pid"] == pid:
            return found
    return {}


def running_already(home: Path) -> Conflict:
    """Return the error for a home that is up, with where it answers."""
    found = endpoint(home)
    where = f" at {found['url']} (process {found['pid']})" if found else ""
    return Conflict(f"up: Shunter is already running in {home}{where}", fix="use it, or stop it with `shunter down`")


def _answers(host: str, url: str) -> bool:
    """Whether the port takes connections: cheaper than an HTTP call while the gateway still imports."""
    port = int(url.rpartition(":")[2])
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1" if host == "0.0.0.0" else host, port), 0.5),
    ):
        return True
    return False


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SetupError(
                f"port: cannot listen on {host}:{port}: {error.strerror}", field="port", fix="give another --port"
            ) from error
