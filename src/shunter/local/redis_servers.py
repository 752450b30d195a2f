"""The servers of a `store.deploy.Plan` on this machine: files, processes, and a Redis Cluster put together."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import redis

from shunter.errors import Conflict, SetupError
from shunter.runtime.process import tied_to_parent
from shunter.store.deploy import MASTER, Plan, Server
from shunter.store.embedded import find_server

SLOTS: Final = 16_384
PATIENCE_S: Final = 30.0
LOOK_S: Final = 0.05


class RedisServers:
    """Each server of *plan* in a folder of its own below *folder*. *password* is that of the plan."""

    def __init__(self, plan: Plan, folder: Path, password: str = "") -> None:
        self.plan = plan
        self.folder = folder
        self._password = password
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    # files

    def write(self) -> list[Path]:
        """Write a configuration file for each server. Raises Conflict if there is one: servers rewrite theirs."""
        there = [path for server in self.plan.servers if (path := self._file(server)).exists()]
        if there:
            raise Conflict(f"dir: {there[0]} is there already", field="dir", fix="choose another --dir, or delete it")
        written = []
        for server in self.plan.servers:
            path = self._file(server)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)  # it has the password
            path.write_text(server.text)
            written.append(path)
        return written

    def _file(self, server: Server) -> Path:
        return self.folder / server.name / f"{server.kind}.conf"

    # processes

    def start(self, name: str, *, tied: bool = False) -> None:
        """Start the server *name*, which goes on without us unless it is *tied* to this process.

        Raises SetupError if there is no redis-server.
        """
        server = self.plan.named(name)
        home = self._file(server).parent
        argv = self.command(server, [str(find_server()), self._file(server).name])
        argv += ["--sentinel"] if server.kind == "sentinel" else []
        with (home / "log").open("ab") as log:
            process = subprocess.Popen(
                tied_to_parent(argv, os.getpid()) if tied else argv,
                cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        (home / "pid").write_text(f"{process.pid}\n")
        self._processes[name] = process

    def command(self, server: Server, argv: list[str]) -> list[str]:  # noqa: ARG002
        """Return what *argv* of *server* is run by: for those who put servers into networks of their own."""
        return argv

    def start_all(self, *, tied: bool = False) -> None:
        """Start all, and return once they serve. Raises SetupError if that takes longer than PATIENCE_S."""
        for kind in ("data", "sentinel"):  # sentinels learn of replicas at once that are there already
            for server in self.plan.servers:
                if server.kind == kind:
                    self.start(server.name, tied=tied)
            for server in self.plan.servers:
                if server.kind == kind:
                    _eventually(self.at(server.name).ping, f"{server.name} to answer; see its log in {self.folder}")
            if kind == "data" and self.plan.mode == "sentinel":
                _eventually(self._replicated, "the replicas to be in step")
        if self.plan.mode == "cluster":
            self._put_together()
        self.settle()

    def pid(self, name: str) -> int | None:
        """Return the process of server *name*; None if it does not run."""
        home = self._file(self.plan.named(name)).parent
        with contextlib.suppress(OSError, ValueError):
            pid = int((home / "pid").read_text())
            if Path(f"/proc/{pid}/cwd").resolve() == home.resolve():
                return pid
        return None

    def signal(self, name: str, number: int) -> None:
        pid = self.pid(name)
        if pid is not None:
            os.kill(pid, number)

    def kill(self, name: str) -> None:
        """End it with SIGKILL, and return once it is dead."""
        self.signal(name, signal.SIGKILL)
        self._gone(name)

    def stop(self, *names: str) -> None:
        """End *names* (all, if none is named), with their files written."""
        ending = names or tuple(server.name for server in self.plan.servers)
        for name in ending:
            self.signal(name, signal.SIGTERM)
            self.signal(name, signal.SIGCONT)
        for name in ending:
            self._gone(name)

    def _gone(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            process.wait(PATIENCE_S)
        _eventually(lambda: self.pid(name) is None, f"{name} to end")

    # what they say

    def at(self, name: str, *, password: str | None = None) -> redis.Redis:
        """Return a client of the server *name*, whichever part it plays now. *password*: if it is another by now."""
        server = self.plan.named(name)
        password = (password or self._password) if server.kind == "data" else ""
        return redis.Redis(host=server.host, port=server.port, password=password or None, socket_timeout=2)

    def do(self, name: str, *command: Any) -> Any:
        with self.at(name) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def living(self) -> list[str]:
        """Return the data servers that run."""
        return [one.name for one in self.plan.servers if one.kind == "data" and self.pid(one.name) is not None]

    def settle(self) -> None:
        """Return once all that run are well: replicas in step, sentinels knowing all servers, the cluster whole."""
        _eventually(self._well, f"the servers in {self.folder} to be in step")

    def _well(self) -> bool:
        living = self.living()
        if not self._replicated():
            return False
        for name in living:
            if self.plan.mode == "cluster" and b"cluster_state:ok" not in self.do(name, "CLUSTER", "INFO"):
                return False
        for server in self.plan.servers:
            if server.kind == "sentinel" and self.pid(server.name) is not None:
                known = self.do(server.name, "SENTINEL", "REPLICAS", MASTER)
                others = self.do(server.name, "SENTINEL", "SENTINELS", MASTER)
                if len(known) < len(living) - 1 or len(others) < 2:
                    return False
        return True

    def _replicated(self) -> bool:
        roles = [self.do(name, "ROLE") for name in self.living()]
        # One that comes back as the master that it was is told otherwise by the sentinels within ten seconds.
        masters = [role for role in roles if role[0] == b"master"]
        return len(masters) == len(self.plan.masters) and all(
            role[3] == b"connected" for role in roles if role[0] == b"slave"
        )

    # a Redis Cluster

    def _put_together(self) -> None:
        """Share the slots out and make replicas, as `redis-cli --cluster create` does."""
        first, *others = self.plan.servers
        masters = self.plan.masters
        for number, server in enumerate(masters):
            bounds = SLOTS * number // len(masters), SLOTS * (number + 1) // len(masters)
            slots = range(*bounds)
            self.do(server.name, "CLUSTER", "ADDSLOTS", *slots)
            self.do(server.name, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server in others:
            self.do(server.name, "CLUSTER", "MEET", _address(first.host), first.port)
        count = len(self.plan.servers)
        _eventually(lambda: all(self._known(one.name) == count for one in self.plan.servers), "all to know all")
        for server in self.plan.servers:
            if server.replica_of:
                master = self.do(server.replica_of, "CLUSTER", "MYID")
                self.do(server.name, "CLUSTER", "REPLICATE", master)

    def _known(self, name: str) -> int:
        return len([line for line in self.do(name, "CLUSTER", "NODES").splitlines() if b"handshake" not in line])


def _address(host: str) -> str:
    """CLUSTER MEET takes addresses only."""
    return str(socket.getaddrinfo(host, None, socket.AF_INET)[0][4][0])


def _eventually(ask: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(redis.RedisError, OSError):
            if ask():
                return
        if time.monotonic() > deadline:
            raise SetupError(
                f"redis: waited {PATIENCE_S:g} s in vain for {what}", fix="see the file `log` of each there"
            )
        time.sleep(LOOK_S)
