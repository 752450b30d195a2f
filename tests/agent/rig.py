"""A real keeper with real jobs, and what tests need to see of them: reports, named signals, leftovers."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import signal
import time
import uuid
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil

from shunter.agent.keeper.client import Gone, KeeperClient
from shunter.agent.keeper.protocol import Ack, Ended, Lease, Live, Ready, Report, Start, Stop
from shunter.agent.keeper.tree import Cgroup
from shunter.runtime.process import boot_time_s

T = TypeVar("T")
PATIENCE_S: Final = 30.0


def eventually(ask: Callable[[], T | None], what: str) -> T:
    """Ask until the answer is neither None nor False; fail, saying *what* was waited for, after PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        answer = ask()
        if answer is not None and answer is not False:
            return answer
        select.select([], [], [], 0.005)
    raise AssertionError(f"not within {PATIENCE_S:g} s: {what}")


def gone(pid: int) -> bool:
    """Whether process *pid* runs no more, though nobody may have reaped it yet."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


class Sign:
    """A named pipe: jobs write words to it, and the test waits for them. Opened for both, so that nobody blocks."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._file = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._rest = b""

    def word(self) -> str:
        """Return the next line that was written."""
        deadline = time.monotonic() + PATIENCE_S
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._file], [], [], max(deadline - time.monotonic(), 0.0))
            assert ready, "the job did not give the sign"
            self._rest += os.read(self._file, 4096)
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def silent(self) -> bool:
        return not select.select([self._file], [], [], 0.0)[0]

    def close(self) -> None:
        os.close(self._file)


class Rig:
    """The folder of a keeper, and the workers that connect to it. Every process of a job shows *mark* in some way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "keeper"
        self.jobs = folder / "jobs"
        self.jobs.mkdir()
        self.mark = uuid.uuid4().hex
        self.readies: list[Ready] = []
        self._clients: list[KeeperClient] = []
        self._signs: dict[str, Sign] = {}
        self._numbers = count(1)
        self._early: list[Report] = []

    # the keeper

    def connect(self) -> list[Report]:
        """Connect a (new) worker; return what the keeper has, without Ready."""
        self._clients.append(KeeperClient(self.folder, self.mark))
        self._early.clear()
        *has, ready = self.client.connect()
        assert isinstance(ready, Ready)
        self.readies.append(ready)
        return has

    @property
    def client(self) -> KeeperClient:
        return self._clients[-1]

    @property
    def ready(self) -> Ready:
        return self.readies[-1]

    @property
    def keeper(self) -> psutil.Process:
        return psutil.Process(self.ready.pid)

    def disconnect(self) -> None:
        self.client.close()

    def kill_keeper(self) -> None:
        """Kill -9, and wait until the worker has noticed."""
        os.kill(self.ready.pid, signal.SIGKILL)
        while not isinstance(self.client.reports.get(timeout=PATIENCE_S), Gone):
            pass
        eventually(lambda: gone(self.ready.pid), "the keeper is dead")

    # jobs

    def request(self, *argv: str, **changes: Any) -> Start:
        """Return the request to run *argv*; a single text with blanks is a bash script."""
        number = next(self._numbers)
        marker = f"{self.mark}:{number}"
        if len(argv) == 1 and " " in argv[0]:
            argv = ("bash", "-c", argv[0], marker)
        folder = self.jobs / str(number)
        env = {"PATH": os.environ["PATH"], "SHUNTER_MEMBER": marker, "SIGNS": str(self.jobs)}
        given: dict[str, Any] = {
            "allocation": f"1.{number}",
            "job_id": number,
            "attempt": 1,
            "rank": 0,
            "argv": list(argv),
            "env": env | changes.pop("env", {}),
            "cwd": "/",
            "folder": str(folder),
            "stdout": str(folder / "output.log"),
            "stderr": str(folder / "output.log"),
            "marker": marker,
            "stop_file": str(folder / "stop"),
        }
        return Start(**given | changes)

    def start(self, *argv: str, **changes: Any) -> Live:
        """Run *argv* and wait until it lives."""
        return self.live(self.send(*argv, **changes))

    def send(self, *argv: str, **changes: Any) -> str:
        """Ask to run *argv*; return its allocation."""
        request = self.request(*argv, **changes)
        self.client.send(request)
        return request.allocation

    def run(self, *argv: str, **changes: Any) -> Ended:
        """Run *argv* to its end."""
        return self.ended(self.send(*argv, **changes))

    def stopped_at_once(self, *argv: str, now: bool = True) -> str:
        """Ask to run *argv* and, in the same breath, to end it; return its allocation."""
        request = self.request(*argv)
        self.client.send(request, Stop(request.allocation, now))
        return request.allocation

    def stop(self, live: Live, *, now: bool = False) -> None:
        self.client.send(Stop(live.allocation, now))

    def lease(self, for_s: float | None) -> float:
        """Let members run for *for_s* seconds from now, None for ever; return the deadline."""
        until_s = None if for_s is None else boot_time_s() + for_s
        self.client.send(Lease(until_s))
        return until_s or 0.0

    def ack(self, ended: Ended) -> None:
        self.client.send(Ack(ended.allocation))

    def sign(self, name: str) -> Sign:
        """Return the pipe that scripts know as `$SIGNS/NAME`."""
        if name not in self._signs:
            self._signs[name] = Sign(self.jobs / name)
        return self._signs[name]

    def output(self, report: Live | Ended, name: str = "output.log") -> str:
        return (self.jobs / str(report.job_id) / name).read_text()

    # reports

    def live(self, allocation: str, *, stopping: bool = False) -> Live:
        def wanted(report: Report) -> bool:
            return isinstance(report, Live) and report.allocation == allocation and report.stopping == stopping

        found = self._take(wanted, f"{allocation} lives")
        assert isinstance(found, Live)
        return found

    def frozen(self, live: Live, *, frozen: bool = True) -> Live:
        """Wait until it is told that *live* is frozen, or thawed."""

        def wanted(report: Report) -> bool:
            return isinstance(report, Live) and report.allocation == live.allocation and report.frozen == frozen

        found = self._take(wanted, f"{live.allocation} is {'frozen' if frozen else 'thawed'}")
        assert isinstance(found, Live)
        return found

    def ended(self, of: Live | str) -> Ended:
        allocation = of if isinstance(of, str) else of.allocation
        found = self._take(lambda one: isinstance(one, Ended) and one.allocation == allocation, f"{allocation} ended")
        assert isinstance(found, Ended)
        return found

    def said(self, allocation: str) -> list[Report]:
        """Return the reports on *allocation* that came and were not asked for; a later one must have come by now."""
        return [one for one in self._early if isinstance(one, Live | Ended) and one.allocation == allocation]

    def _take(self, wanted: Callable[[Report], bool], what: str) -> Report:
        for early in self._early:
            if wanted(early):
                self._early.remove(early)
                return early
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                report: Report | Gone = self.client.reports.get(timeout=max(deadline - time.monotonic(), 0.01))
            except queue.Empty:
                raise AssertionError(f"not reported within {PATIENCE_S:g} s: {what}") from None
            if isinstance(report, Gone):
                raise AssertionError(f"the keeper is gone; waited for: {what}\n{self.log()}")
            if wanted(report):
                return report
            self._early.append(report)

    def log(self) -> str:
        return (self.folder / "keeper.log").read_text()

    # what is left

    def leftovers(self) -> list[psutil.Process]:
        """Return the living processes of any job of this rig, by environment or arguments."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                own = self.mark in "\0".join(process.cmdline()) or self.mark in process.environ().get(
                    "SHUNTER_MEMBER", ""
                )
                keeps = process.cmdline()[1:3] == ["-m", "shunter.agent.keeper"] or process.pid == os.getpid()
                if own and not keeps and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def keepers(self) -> set[int]:
        """Return the pids of the keepers of this rig and their helpers, also of those that outlived their keeper."""
        found = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.cmdline()[1:] == ["-m", "shunter.agent.keeper", str(self.folder), self.mark]:
                    found.add(process.pid)
        return found

    def helpers(self) -> list[psutil.Process]:
        """Return the keeper's own children: its fence, and its guardian where there are cgroups."""
        found = []
        for ready in self.readies:
            with contextlib.suppress(psutil.Error):
                command = psutil.Process(ready.pid).cmdline()
                found += [one for one in psutil.Process(ready.pid).children() if one.cmdline() == command]
        return found

    def fences(self) -> list[psutil.Process]:
        """Return the helpers without the lock, which only the guardian shares with the keeper."""
        lock = str(self.folder / "keeper.lock")
        found = []
        for one in self.helpers():
            with contextlib.suppress(psutil.Error):
                if one.status() != psutil.STATUS_ZOMBIE and all(file.path != lock for file in one.open_files()):
                    found.append(one)
        return found

    def assert_nothing_left(self) -> None:
        assert [(process.pid, process.cmdline()) for process in self.leftovers()] == []

    def finish(self) -> None:
        """End all that runs through the keeper, and demand that nothing is left; then clean up, whatever came of it."""
        try:
            if self.readies and not gone(self.ready.pid):
                self.wake()
                for report in self.connect():
                    if isinstance(report, Live):
                        self.stop(report, now=True)
                        self.ended(report)
            self.assert_nothing_left()
        finally:
            self._clean_up()

    def wake(self) -> None:
        """Continue the keeper and its helpers, which a test may have stopped."""
        for pid in self.keepers():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGCONT)

    def _clean_up(self) -> None:
        for pid in self.keepers():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for process in self.leftovers():
            with contextlib.suppress(psutil.Error):
                process.kill()
        for client in self._clients:
            client.close()
            if client._child is not None:  # it outlives a worker by design, but not a test
                client._child.kill()
                client._child.wait()
        eventually(lambda: not self.keepers(), "the helpers have ended with their keeper")
        for ready in self.readies:
            self._remove_cgroup(ready)
        for sign in self._signs.values():
            sign.close()

    def _remove_cgroup(self, ready: Ready) -> None:
        base = Cgroup(Path(ready.cgroup))
        if ready.cgroup and base.folder.exists():
            eventually(lambda: gone(ready.pid), "the keeper is dead")
            base.kill()
            eventually(lambda: not base.populated(), "its cgroup is empty")
            for folder in [*base.folder.iterdir(), base.folder]:
                if folder.is_dir():
                    folder.rmdir()
