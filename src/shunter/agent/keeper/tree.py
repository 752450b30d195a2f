"""All processes of a member, however they hide: a cgroup where one can be made, else ancestry and environment.

With a cgroup (v2) nothing escapes. Without one, the keeper is the subreaper of everything that it started, so what a
job leaves behind are children of the keeper; they are known by the marker in their environment or by their session. A
process that cleared its environment and left its session, on a machine without cgroups, is found only when it is the
only candidate; docs/limits.md names this.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import Struct

_MARKER: Final = b"SHUNTER_MEMBER="


def cgroup_base(name: str) -> Path | None:
    """Make and return the cgroup v2 folder `NAME-PID` below our own, or None where that is not possible."""
    try:
        mount = next(
            Path(fields[1])
            for fields in (line.split() for line in Path("/proc/mounts").read_text().splitlines())
            if fields[2] == "cgroup2"
        )
        own = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
        base = mount / own.lstrip("/") / f"{name}-{os.getpid()}"
        _sweep(base.parent, name)
        base.mkdir(exist_ok=True)
        probe = base / "probe"
        probe.mkdir(exist_ok=True)
        usable = (probe / "cgroup.kill").exists()
        probe.rmdir()
    except (OSError, StopIteration):
        return None
    if not usable:  # a kernel before 5.14
        with contextlib.suppress(OSError):
            base.rmdir()
        return None
    return base


def _sweep(parent: Path, name: str) -> None:
    """Remove the empty folders of keepers that were killed; one with processes in it stays."""
    for folder in parent.glob(f"{name}-*"):
        pid = folder.name.rpartition("-")[2]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            with contextlib.suppress(OSError):
                folder.rmdir()


class Cgroup:
    """The cgroup of one member."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> int:
        """Make it and return its folder, open; a process that writes `0` to `cgroup.procs` there joins."""
        self.folder.mkdir(exist_ok=True)
        return os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def populated(self) -> bool:
        try:
            return "populated 1" in (self.folder / "cgroup.events").read_text()
        except OSError:
            return False

    def kill(self) -> None:
        """Kill all below."""
        with contextlib.suppress(OSError):
            (self.folder / "cgroup.kill").write_text("1")
        # That leaves out a process whose main thread has ended before the others (seen on Linux 6.18).
        for file in self.folder.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                kill_all(pid for pid in map(int, file.read_text().split()) if pid > 0)

    def freeze(self, *, frozen: bool) -> None:
        """Ask the kernel to freeze, or thaw, all below; those that are forked into it later freeze at birth."""
        with contextlib.suppress(OSError):
            (self.folder / "cgroup.freeze").write_text("1" if frozen else "0")

    def frozen(self) -> bool:
        """Whether none below runs; not so while one waits for a device or a file server that does not answer."""
        try:
            return "frozen 1" in (self.folder / "cgroup.events").read_text()
        except OSError:
            return False

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self.folder.rmdir()


class Leader(Struct, frozen=True):
    """A main process, told from a later one with the same number by its start (*ticks*) and the machine's (*boot*)."""

    pid: int
    ticks: int
    boot: str

    def is_ours(self) -> bool:
        """Whether the session that it led may still be its own: not after a reboot, nor under a new leader."""
        return self.boot == _boot() and identify(self.pid) in (None, self)


def identify(pid: int) -> Leader | None:
    """Return who *pid* is now, None if nobody."""
    stat = stat_of(pid)
    return Leader(pid, stat.ticks, _boot()) if stat else None


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def newest_first() -> list[int]:
    """Return the numbers of all processes of the machine."""
    return sorted((int(name) for name in os.listdir("/proc") if name.isdigit()), reverse=True)  # noqa: PTH208


class Stat(NamedTuple):
    """What /proc/PID/stat says (proc(5)): *ticks* is the start, in clock ticks since boot."""

    state: str
    parent: int
    session: int
    threads: int
    ticks: int

    def dead(self) -> bool:
        """A main thread that ended before the others looks like a zombie, and is none."""
        return self.state in "ZX" and self.threads <= 1


def stat_of(pid: int) -> Stat | None:
    """Return the state of *pid*, None if it is gone."""
    try:
        # The command in parentheses may itself hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
    except OSError:
        return None
    return Stat(fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[17]), int(fields[19]))


def _marker(pid: int) -> str:
    """Return the marker in the environment of *pid*; empty if it shows none, for it cleared it or is just in exec."""
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""
    found = (one for one in environ.split(b"\0") if one.startswith(_MARKER))
    return next(found, _MARKER)[len(_MARKER) :].decode(errors="replace")


def end(session: int | None, marker: str) -> set[int]:
    """Kill the living processes of a member, of its *session* or with its marker, and all below; return them.

    The newest first, and each as soon as it is seen: of a tree that grows, only the newest are still there. The session
    is its main process's pid. Linux gives that number to nobody else while a process is left in the session, so it may
    be named after the main process was reaped, as long as the answer has never been empty since.
    """
    parents: dict[int, int] = {}
    ended: set[int] = set()
    for pid in newest_first():
        stat = stat_of(pid)
        if stat is None or stat.dead() or pid == os.getpid():
            continue
        parents[pid] = stat.parent
        if (session and stat.session == session) or _marker(pid) == marker:
            kill_all([pid])
            ended.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in ended} - ended:
        kill_all(more)
        ended |= more
    return ended


def orphans(mains: Container[int]) -> list[int]:
    """Return the children of this process but *mains*, living or not.

    The subreaper gets what members have cut loose: all that is left of a member whose main process was reaped is one of
    these or hangs below one. Empty is certain: nobody but us takes a child off the kernel's list, by reaping it.
    """
    own = os.getpid()
    try:
        children = [int(pid) for pid in Path(f"/proc/{own}/task/{own}/children").read_text().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        children = [pid for pid in newest_first() if (stat := stat_of(pid)) and stat.parent == own]
    return [pid for pid in children if pid not in mains]


def origin(pid: int, session: int, marker: str) -> str:
    """Return whose the orphan *pid* is: `ours` (of this session or marker), `theirs`, or `unknown`.

    Unknown is what cleared its environment and left its session, what is just in exec, and what has just ended: it may
    have left another orphan behind.
    """
    stat = stat_of(pid)
    if stat is None or stat.dead():
        return "unknown"
    found = _marker(pid)
    if stat.session == session or found == marker:
        return "ours"
    return "theirs" if found else "unknown"


def kill_all(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
