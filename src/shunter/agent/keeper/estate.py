"""What a keeper's process owns, and hands to a newer program of itself: pid, children, connections and locks stay.

The process replaces its program (execve(2)). Its children do not notice: their parent is who it was, so neither the
parent-death signal nor the guardian's look at it says that it has ended, and the subreaper's attribute stays as well.
Descriptors are passed on by number, the rest as text in a file in memory. The newer program is tried first, in a
process of its own, for once it has taken over there is no way back.
"""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec
from msgspec import Struct, field

from shunter.agent.keeper.clients import Kin
from shunter.agent.keeper.guardian import watch_over
from shunter.agent.keeper.member import Member
from shunter.agent.keeper.oom import shield
from shunter.agent.keeper.protocol import Replace, Start
from shunter.agent.keeper.tree import Cgroup, cgroup_base
from shunter.runtime.process import become_subreaper

FORMAT: Final = 1
"""Of Estate. A program refuses one that it does not know; a field that is added with a default needs no other."""

VARIABLE: Final = "SHUNTER_KEEPER_ESTATE"
"""Has the descriptor of the file with the estate. Not an argument: whoever looks for keepers finds them by those."""


class OldFence(Struct):
    """The fence of the program before: its process, the *channel* to it, and whether it had frozen all."""

    pid: int
    channel: int
    frozen: bool


class Estate(Struct):
    """Numbers are descriptors, but *guardian*, a pid, and *oom_score*; without cgroups, *cgroups* is empty.

    *lost_s* and *until_s* are `Term`'s, *lessor* the number of the client whose leases count.
    """

    lock: int
    oom_score: int
    cgroups: str
    guardian: int
    guarded: int
    format: int = FORMAT
    until_s: float | None = None
    lost_s: float = 0.0
    lessor: int = 0
    fence: OldFence | None = None
    members: list[Member] = field(default_factory=list)
    waiting: list[Start] = field(default_factory=list)
    kin: Kin | None = None

    def descriptors(self) -> list[int]:
        """Return all that the next program needs open."""
        found = [self.lock, self.guarded, *(member.pipe for member in self.members if member.pipe is not None)]
        found += [self.fence.channel] if self.fence else []
        found += self.kin.descriptors() if self.kin else []
        return [one for one in found if one >= 0]


def found_estate(folder: Path, node: str) -> Estate:
    """Return that of a keeper which begins. Raises SystemExit if another keeper has *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / "keeper.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SystemExit(f"keeper: another one keeps {folder}") from None
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    oom_score = shield()
    become_subreaper()
    base = cgroup_base(f"shunter-{node}") if os.environ.get("SHUNTER_CGROUP") != "off" else None
    guardian, guarded = watch_over(base) if base else (0, -1)
    return Estate(lock, oom_score, str(base or ""), guardian, guarded)


def inherited() -> Estate | None:
    """Return the estate that this process was handed, if it was; its descriptors are closed at the next exec again.

    Raises SystemExit if this program cannot go on with it.
    """
    number = os.environ.pop(VARIABLE, "")
    if not number:
        return None
    with os.fdopen(int(number), "rb") as file:
        file.seek(0)
        text = file.read()
    if msgspec.json.decode(text, type=_Format).format != FORMAT:
        raise SystemExit(f"keeper: cannot go on with an estate of another format than {FORMAT}")
    return msgspec.json.decode(text, type=Estate, dec_hook=_decode_cgroup)


def own(estate: Estate) -> None:
    """Have what *estate* names closed at the next exec: no member may inherit it."""
    for descriptor in estate.descriptors():
        os.set_inheritable(descriptor, False)


class Successor:
    """The program that is to go on with a keeper's work. *arguments* are those of the keeper."""

    def __init__(self, wanted: Replace, arguments: list[str]) -> None:
        self._python = wanted.python
        self._argv = [wanted.python, "-m", "shunter.agent.keeper", *arguments]
        self._env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        if wanted.path:
            self._env["PYTHONPATH"] = wanted.path
        self.pid = 0

    def try_it(self, estate: Estate) -> None:
        """Have it say, by its exit status, whether it can go on with *estate*. Raises OSError if it does not start."""
        file = _written(estate)
        try:
            actions = [(os.POSIX_SPAWN_DUP2, file, file)]  # which leaves it open there
            self.pid = os.posix_spawn(
                self._python, [*self._argv, "--try"], self._env | {VARIABLE: str(file)}, file_actions=actions
            )
        finally:
            os.close(file)

    def take_over(self, estate: Estate) -> NoReturn:
        """Become it. Raises OSError, and nothing has changed, if that is impossible."""
        file = _written(estate)
        try:
            for descriptor in (file, *estate.descriptors()):
                os.set_inheritable(descriptor, True)
            sys.stdout.flush()
            sys.stderr.flush()
            os.execve(self._python, self._argv, self._env | {VARIABLE: str(file)})
        except OSError:
            own(estate)
            os.close(file)
            raise


class _Format(Struct):
    format: int


def _written(estate: Estate) -> int:
    file = os.memfd_create("keeper-estate")
    text = msgspec.json.encode(estate, enc_hook=_encode_cgroup)
    while text:
        text = text[os.write(file, text) :]
    return file


def _encode_cgroup(value: Any) -> str:
    assert isinstance(value, Cgroup)
    return str(value.folder)


def _decode_cgroup(_: type, value: Any) -> Cgroup:
    return Cgroup(Path(value))
