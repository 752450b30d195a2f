"""The node worker's end of the keeper's socket: starts a keeper where none runs, and reads its reports on a thread."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

from shunter import __version__
from shunter.agent.keeper.protocol import Lease, Lines, Ready, Replace, Report, Request, decode_report, encode
from shunter.errors import SetupError
from shunter.runtime.paths import socket_path

START_TIMEOUT_S: Final = 20.0
FENCE_VERSION: Final = 3
"""The first version of the protocol that knows leases and confirms them."""

REPLACE_VERSION: Final = 4
"""The first that can replace itself."""


class Gone:
    """Put in the report queue when the keeper's connection ended."""


class KeeperClient:
    """Connect with `connect()`; then `send()` requests and take Reports, and at last Gone, from `reports`."""

    _version = 0
    _asked = False

    def __init__(self, folder: Path, node: str) -> None:
        self._folder = folder
        self._node = node
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self.reports: queue.SimpleQueue[Report | Gone] = queue.SimpleQueue()

    def connect(self) -> list[Report]:
        """Connect, starting a keeper if none answers; return what it has, `Ready` last.

        Raises SetupError if it cannot.
        """
        self.close()
        deadline = time.monotonic() + START_TIMEOUT_S
        self.reports = queue.SimpleQueue()
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(socket_path(self._folder / "keeper.sock")))
                break
            except OSError:
                connection.close()
            if self._child is None or self._child.poll() is not None:
                self._launch()
            if time.monotonic() > deadline:
                raise SetupError("keeper: did not start", fix=f"see {self._folder / 'keeper.log'}")
            time.sleep(0.02)
        self._socket = connection
        self._asked = False
        threading.Thread(target=self._read, args=(connection, self.reports), name="keeper", daemon=True).start()
        has: list[Report] = []
        while not has or not isinstance(has[-1], Ready):
            try:
                report = self.reports.get(timeout=START_TIMEOUT_S)
            except queue.Empty:
                self.close()
                raise SetupError("keeper: does not answer", fix=f"see {self._folder / 'keeper.log'}") from None
            if isinstance(report, Gone):
                return self.connect()
            has.append(report)
        return has

    @property
    def fences(self) -> bool:
        """Whether the keeper is of a version that freezes members when their lease has passed."""
        return self._version >= FENCE_VERSION

    def renew(self, ready: Ready) -> bool:
        """Have a keeper of another build than ours go on as ours; return whether it was asked to.

        It says Ready again when it has done so, and nothing if it cannot. Each connection asks once.
        """
        if self._asked or ready.build == __version__ or ready.version < REPLACE_VERSION:
            return False
        self._asked = True
        self.send(Replace(sys.executable, os.environ.get("PYTHONPATH", "")))
        return True

    def _launch(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "keeper.log").open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "shunter.agent.keeper", str(self._folder), self._node],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )

    def _read(self, connection: socket.socket, reports: queue.SimpleQueue[Report | Gone]) -> None:
        lines = Lines()
        while True:
            try:
                data = connection.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                reports.put(Gone())
                if self._child is not None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self._child.wait(1.0)
                return
            for line in lines.feed(data):
                report = decode_report(line)
                if isinstance(report, Ready):
                    self._version = report.version
                reports.put(report)

    def send(self, *requests: Request) -> None:
        """Send *requests*; nothing is raised if the keeper is gone, for `reports` will say so.

        A Lease is not sent to a keeper that would not understand it: see `fences`.
        """
        data = b"".join(encode(one) + b"\n" for one in requests if self.fences or not isinstance(one, Lease))
        with self._lock, contextlib.suppress(OSError):
            if self._socket is not None:
                self._socket.sendall(data)

    def close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
