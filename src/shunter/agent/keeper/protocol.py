"""What a node worker and its keeper say to each other: one JSON object a line, over the keeper's socket."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from shunter.domain.job import WHOLE_GPU
from shunter.domain.outcome import Exit

VERSION: Final = 4
"""1 knew no Lease: such a keeper does not understand one, and cannot fence. 2 did not confirm it. A worker of version 1
never sends one, and the keeper it talks to never freezes. 3 could not replace itself."""


class Start(Struct, frozen=True, omit_defaults=True, tag="start"):
    """Run one member of an attempt. *allocation* names it on this node; *marker* is in its environment.

    While the lease has passed it waits: not an instruction of it runs before a later Lease. Until then it is told as
    Live, frozen, with pid 0, and a Stop ends it as not started.

    *gpu_milli* is what it may have of each of *gpus*, in thousandths. *time_limit_s* and *grace_s* are seconds; the
    keeper enforces them by itself, whether or not a worker is there.
    """

    allocation: str
    job_id: int
    attempt: int
    rank: int
    argv: list[str]
    env: dict[str, str]
    cwd: str
    folder: str
    stdout: str
    stderr: str
    marker: str
    gpus: tuple[int, ...] = ()
    gpu_milli: int = WHOLE_GPU
    time_limit_s: int | None = None
    grace_s: int = 30
    stop_file: str = ""


class Stop(Struct, frozen=True, omit_defaults=True, tag="stop"):
    """End a member: stop file, SIGTERM to its group, and after its grace SIGKILL to all. *now* skips the grace.

    *now* also ends what is frozen. Without it, what is frozen stays so: its stop (file, signal, grace) begins when the
    lease is renewed, for an ending that checkpoints is work, and work needs a lease.
    """

    allocation: str
    now: bool = False


class Ack(Struct, frozen=True, tag="ack"):
    """The store has this end: the keeper may forget it."""

    allocation: str


class Lease(Struct, frozen=True, omit_defaults=True, tag="lease"):
    """Members may run until *until_boot_s* (CLOCK_BOOTTIME, seconds); None is unfenced.

    When it passes, all members are frozen, whatever has become of the worker; a later Lease thaws them. Only the latest
    counts, and of two workers the one that connected later. What must not run again has to be stopped *before* it.

    *number* is the renewal that granted it: once it is enforced, `Leased` repeats it. 0 asks for no confirmation.
    """

    until_boot_s: float | None
    number: int = 0


class Replace(Struct, frozen=True, tag="replace"):
    """Go on as the program that *python* finds, with PYTHONPATH *path*: same process, same members, same connections.

    That program is tried first, and if it cannot go on with what is here, nothing changes. Once it has taken over, it
    says Ready again.
    """

    python: str
    path: str = ""


Request = Start | Stop | Ack | Lease | Replace


class Live(Struct, frozen=True, omit_defaults=True, tag="live"):
    """A member runs (or is ending, or is *frozen*). Sent when it starts, at each change, and when a worker connects.

    *pid* 0: it waits for a lease, and has not been started.
    """

    allocation: str
    job_id: int
    attempt: int
    rank: int
    pid: int
    gpus: tuple[int, ...] = ()
    stopping: bool = False
    gpu_milli: int = WHOLE_GPU
    frozen: bool = False


class Ended(Struct, frozen=True, tag="ended"):
    """A member is over and no process of it is left. Repeated at each connect until acknowledged."""

    allocation: str
    job_id: int
    attempt: int
    rank: int
    exit: Exit


class Ready(Struct, frozen=True, tag="ready"):
    """All that the keeper has was said: what it did not name, it does not have.

    With a *cgroup* (its folder) it freezes by that, otherwise by SIGSTOP. *build* is the version of its program.
    """

    version: int
    pid: int
    cgroup: str = ""
    build: str = ""


class Leased(Struct, frozen=True, tag="leased"):
    """The term that renewal *number* granted is enforced, and all stops that were asked for before it were begun."""

    number: int


Report = Live | Ended | Ready | Leased

encode: Final = msgspec.json.Encoder().encode
decode_request: Final = msgspec.json.Decoder(Request).decode
decode_report: Final = msgspec.json.Decoder(Report).decode


class Lines:
    """Cuts a byte stream into lines."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def rest(self) -> bytes:
        """Return the line that is not complete yet."""
        return b"".join(self._parts)

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that *data* completes; the cost is linear, also for a line that comes in many pieces."""
        first, *rest = data.split(b"\n")
        self._parts.append(first)
        if not rest:
            return []
        lines = [b"".join(self._parts), *rest[:-1]]
        self._parts = [rest[-1]]
        return lines
