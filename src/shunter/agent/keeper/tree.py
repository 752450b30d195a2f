"""All processes of a member, however they hide: a cgroup where one can be made, else ancestry and environment.

With a cgroup (v2) nothing escapes. Without one, the keeper is the subreaper of everything that it started, so what a
job leaves behind are children of the keeper; they are known by the marker in their environment or by their session. A
process that cleared its environment and left its session, on a machine without cgroups, is found only when it is the
only candidate; docs/guarantees names this.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Final


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
        with contextlib.suppress(OSError):
            (self.folder / "cgroup.kill").write_text("1")

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def processes() -> dict[int, tuple[int, int, str]]:
    """Return pid → (parent, session, state) of every process that can be read."""
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                # The command in parentheses may itself hold spaces and parentheses.
                fields = Path(f"/proc/{entry.name}/stat").read_bytes().rpartition(b") ")[2].split()
                found[int(entry.name)] = (int(fields[1]), int(fields[3]), fields[0].decode())
    return found


def marker_of(pid: int) -> str:
    """Return the marker in the environment of *pid*, empty if it shows none: it cleared it, or is being replaced (exec)."""
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""
    found = (one for one in environ.split(b"\0") if one.startswith(_MARKER))
    return next(found, _MARKER)[len(_MARKER) :].decode(errors="replace")


def members(session: int | None, marker: str) -> set[int]:
    """Return the living processes of a member: those of its *session* or with its marker, and all below them.

    The session is its main process's pid. Linux gives that number to nobody else while a process is left in the session,
    so it may be asked for after the main process was reaped, as long as the answer has never been empty since.
    """
    table = {pid: row for pid, row in processes().items() if row[2] != "Z" and pid != os.getpid()}
    ours = {pid for pid, (_, its, _) in table.items() if (session and its == session) or marker_of(pid) == marker}
    grown = True
    while grown:
        more = {pid for pid, (parent, _, _) in table.items() if parent in ours and pid not in ours}
        ours |= more
        grown = bool(more)
    return ours


def orphans(mains: Container[int]) -> set[int]:
    """Return the living children of this process but *mains*: the subreaper gets what members have cut loose, so all
    that is left of a member whose main process was reaped hangs below one of these."""
    table = processes().items()
    return {pid for pid, (parent, _, state) in table if parent == os.getpid() and state != "Z" and pid not in mains}


def kill_all(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
