"""Jobs that write the boot-time clock to files of their own: when they ran is judged by that, not by any report."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from shunter.agent.keeper.protocol import Lease, encode
from shunter.runtime.paths import socket_path
from shunter.runtime.process import boot_time_s
from tests.agent.rig import Rig, eventually

PROMISED_S: Final = 1.0
"""Within which members are frozen."""

QUIET_S: Final = 0.2
"""So long without a stamp, in seconds, and a job that does so every 5 ms is taken for frozen."""

STAMPING: Final = """
import os, sys, time
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
while True:
    os.write(file, b"%.6f\\n" % time.clock_gettime(time.CLOCK_BOOTTIME))
    time.sleep(0.005)
"""


HEADLESS: Final = f"""
import ctypes, threading
threading.Thread(target=exec, args=({STAMPING!r}, globals())).start()
ctypes.CDLL(None).pthread_exit(0)
"""
"""The same, in a process whose main thread has ended: it looks like a zombie."""


def stamping(path: Path | str) -> tuple[str, ...]:
    """Return a command that writes the time to *path* every 5 ms."""
    return (sys.executable, "-SEc", STAMPING, str(path))


class Stamps:
    """What such a job has written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def all(self) -> list[float]:
        """Return the times of all complete lines, in seconds."""
        if not self.path.exists():
            return []
        return [float(line) for line in self.path.read_text().split("\n")[:-1] if line]

    def wait(self, after_s: float = 0.0) -> float:
        """Wait for a stamp later than *after_s*, and return the last."""

        def last() -> float | None:
            times = self.all()
            return times[-1] if times and times[-1] > after_s else None

        return eventually(last, f"{self.path.name} goes on")


def pass_by(until_s: float) -> None:
    """Let the time pass in which something must not happen."""
    eventually(lambda: boot_time_s() > until_s, "time passes")


def assert_frozen_by(deadline_s: float, *stamps: Stamps, watch_s: float = QUIET_S) -> None:
    """Assert that all *stamps* stop within the promised second after *deadline_s*.

    They are seen to have stopped when none has gone on for *watch_s* seconds.
    """
    eventually(lambda: boot_time_s() > max(deadline_s, *(one.wait() for one in stamps)) + watch_s, "they have stopped")
    late = {one.path.name: one.wait() - deadline_s for one in stamps}
    assert all(seconds <= PROMISED_S for seconds in late.values()), late


def assert_still(*stamps: Stamps) -> None:
    """Assert that *stamps* do not go on, in a time that would do for dozens."""
    before = [one.all() for one in stamps]
    pass_by(boot_time_s() + QUIET_S)
    assert [one.all() for one in stamps] == before


WORKER: Final = """
import os, select, socket, sys, time
path, log, term_s = sys.argv[1], sys.argv[2], float(sys.argv[3])
keeper = socket.socket(socket.AF_UNIX)
keeper.connect(path)
while not select.select([0], [], [], 0.05)[0]:
    until = time.clock_gettime(time.CLOCK_BOOTTIME) + term_s
    with open(log, "a") as file:
        file.write(f"{until:.6f}\\n")
    keeper.sendall(b'{"type":"lease","until_boot_s":%.6f}\\n' % until)
keeper.close()
print(flush=True)
time.sleep(600)
"""
"""A worker that renews every 50 ms, and closes its connection when it is told."""


class Worker:
    """A process that holds the lease of *rig*'s keeper, for *term_s* seconds at a time."""

    def __init__(self, rig: Rig, term_s: float) -> None:
        self.granted = Stamps(rig.jobs / "granted")
        assert b'"type":"lease"' in encode(Lease(1.0))
        command = [sys.executable, "-SEc", WORKER, str(socket_path(rig.folder / "keeper.sock")), self.granted.path]
        self.process = subprocess.Popen(
            [*map(str, command), str(term_s)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def put(self, state: str) -> float:
        """Kill or stop it, or have it `disconnect`; return the last deadline that it gave."""
        if state == "disconnected":
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            self.process.stdin.write(b"\n")
            self.process.stdin.flush()
            assert select.select([self.process.stdout], [], [], 30.0)[0]
        elif state == "killed":
            self.process.kill()
            self.process.wait()
        else:
            self.process.send_signal(signal.SIGSTOP)
            os.waitpid(self.process.pid, os.WUNTRACED)
        return self.granted.all()[-1]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
