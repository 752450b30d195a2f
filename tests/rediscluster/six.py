"""A real Redis Cluster on this machine: three masters, each with a replica."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import redis
from redis.crc import key_slot

from shunter.runtime.process import tied_to_parent

T = TypeVar("T")
SLOTS: Final = 16384
NODE_TIMEOUT_MS: Final = 1000
PATIENCE_S: Final = 30.0


def eventually(ask: Callable[[], T | None], what: str, within_s: float = PATIENCE_S) -> T:
    """Ask until the answer is neither None nor False; errors of Redis are no answer. Fails, saying *what*."""
    deadline = time.monotonic() + within_s
    while True:
        with contextlib.suppress(redis.RedisError, OSError):
            answer = ask()
            if answer is not None and answer is not False:
                return answer
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.02)


def server() -> str | None:
    """Return the program, if there is one of version 7: six.py speaks to it as one does."""
    return shutil.which("redis-server")


def free_ports(count: int) -> list[int]:
    """Return ports that are free, and whose bus ports (10,000 above) are."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            one = stack.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            bus = stack.enter_context(socket.socket())
            if port + 10_000 < 65_536:
                with contextlib.suppress(OSError):
                    bus.bind(("127.0.0.1", port + 10_000))
                    found.append(port)
    return found


class Six:
    """Servers by port; the first three were masters at the start, each with the one three further as its replica."""

    def __init__(self, folder: Path, *, password: str = "") -> None:
        self.folder = folder
        self.password = password
        self.ports = free_ports(6)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    # the servers

    def start(self) -> None:
        for port in self.ports:
            self.start_one(port)
        for port in self.ports:
            eventually(self.at(port).ping, "the server answers")
        masters, replicas = self.ports[:3], self.ports[3:]
        for index, port in enumerate(masters):
            self.do(port, "CLUSTER", "ADDSLOTSRANGE", SLOTS * index // 3, SLOTS * (index + 1) // 3 - 1)
            self.do(port, "CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for port in self.ports[1:]:
            self.do(port, "CLUSTER", "MEET", "127.0.0.1", self.ports[0])
        eventually(lambda: all(self._known(port) == 6 for port in self.ports), "all know all")
        for master, replica in zip(masters, replicas, strict=True):
            self.do(replica, "CLUSTER", "REPLICATE", self.id(master))
        self.settled()

    def start_one(self, port: int) -> None:
        home = self.folder / str(port)
        home.mkdir(exist_ok=True)
        options = {
            "port": port, "bind": "127.0.0.1", "dir": home, "cluster-enabled": "yes", "appendonly": "yes",
            "cluster-node-timeout": NODE_TIMEOUT_MS, "save": "", "repl-diskless-sync-delay": 0,
            "cluster-replica-validity-factor": 0,
        }  # fmt: skip
        if self.password:
            options |= {"requirepass": self.password, "masterauth": self.password}
        argv = [str(server()), *(str(part) for name, value in options.items() for part in (f"--{name}", value))]
        with (home / "log").open("ab") as log:
            self._processes[port] = subprocess.Popen(
                tied_to_parent(argv, os.getpid()), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self, port: int) -> None:
        self._processes[port].kill()
        self._processes[port].wait()

    def cut_off(self, master: int, replica: int) -> None:
        """Have *replica* miss what *master* does from now on, until it is thawed."""
        self._processes[replica].send_signal(signal.SIGSTOP)
        self.do(master, "CLIENT", "KILL", "TYPE", "replica")  # what was sent would still be in the frozen one's socket

    def thaw(self, port: int) -> None:
        self._processes[port].send_signal(signal.SIGCONT)

    def stop(self) -> None:
        for port in list(self._processes):
            self.kill(port)

    # what they say

    def at(self, port: int) -> redis.Redis:
        return redis.Redis(
            host="127.0.0.1", port=port, password=self.password or None, socket_timeout=2, decode_responses=True
        )

    def do(self, port: int, *command: Any) -> Any:
        with self.at(port) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def id(self, port: int) -> str:
        return str(self.do(port, "CLUSTER", "MYID"))

    def _known(self, port: int) -> int:
        return len([line for line in self.do(port, "CLUSTER", "NODES").splitlines() if "handshake" not in line])

    def settled(self) -> None:
        """Wait until every living server finds the cluster well, and every replica is in step."""

        def well() -> bool:
            for port in self.living():
                if "cluster_state:ok" not in self.do(port, "CLUSTER", "INFO"):
                    return False
                role = self.do(port, "ROLE")
                if role[0] == "slave" and role[3] != "connected":
                    return False
            return True

        eventually(well, "the cluster is well")

    def living(self) -> list[int]:
        return [port for port, process in self._processes.items() if process.poll() is None]

    def master_of(self, tag: str) -> int:
        """Return the port of who serves the slot of *tag*, by the word of a majority."""
        slot = key_slot(b"{%s}" % tag.encode())

        def look() -> int | None:
            said = [found for port in self.living() if (found := self._said(port, slot))]
            best = max(set(said), key=said.count)
            return best if said.count(best) > len(self.ports) // 2 and best in self.living() else None

        return eventually(look, f"a majority names the master of {{{tag}}}")

    def _said(self, port: int, slot: int) -> int | None:
        with contextlib.suppress(redis.RedisError):
            for first, last, master, *_ in self.do(port, "CLUSTER", "SLOTS"):
                if first <= slot <= last:
                    return int(master[1])
        return None

    def replica_of(self, port: int) -> int:
        master = self.id(port)
        for line in self.do(port, "CLUSTER", "REPLICAS", master):
            return int(line.split()[1].split("@")[0].rpartition(":")[2])
        raise AssertionError(f"{port} has no replica")

    def masters(self) -> list[int]:
        return [port for port in self.living() if self.do(port, "ROLE")[0] == "master"]

    # what happens to them

    def restart(self, master: int) -> None:
        """Restart a master as an operator does: asked to end, and started again once its replica has taken over."""
        replica = self.replica_of(master)
        self._processes[master].terminate()
        self._processes[master].wait()
        eventually(lambda: self.do(replica, "ROLE")[0] == "master", "the replica takes over")
        self.start_one(master)
        eventually(lambda: self.do(master, "ROLE")[0] == "slave", "it comes back as a replica")
        self.settled()

    def move_slot(self, tag: str) -> int:
        """Move the slot of *tag* with its keys to another master, as redis-cli does; return the new one's port."""
        slot, source = key_slot(b"{%s}" % tag.encode()), self.master_of(tag)
        masters = self.masters()
        target = next(port for port in masters if port != source)
        self.do(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.id(source))
        self.do(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.id(target))
        auth = ["AUTH", self.password] if self.password else []
        while keys := self.do(source, "CLUSTER", "GETKEYSINSLOT", slot, 10):
            self.do(source, "MIGRATE", "127.0.0.1", target, "", 0, 5000, *auth, "KEYS", *keys)
        for port in (target, source, *(port for port in masters if port not in (source, target))):
            self.do(port, "CLUSTER", "SETSLOT", slot, "NODE", self.id(target))
        eventually(lambda: self.master_of(tag) == target, "all know the new master")
        return target

    def url(self, tag: str) -> str:
        account = f":{self.password}@" if self.password else ""
        hosts = ";".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"rediscluster://{account}{hosts}/{tag}"
