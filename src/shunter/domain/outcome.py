"""How an attempt ended, and what that means: the keeper's exit record, and the outcome that people see."""

from __future__ import annotations

import enum
import signal
from typing import Final

from msgspec import Struct
from msgspec.structs import replace


class FailureClass(enum.StrEnum):
    """Why an attempt did not succeed; each class has a policy in `domain.retry`."""

    USER_ERROR = "user_error"
    SIGNALLED = "signalled"
    LAUNCH_FAILED = "launch_failed"
    DISK_FULL = "disk_full"
    TIME_LIMIT = "time_limit"
    CANCELLED = "cancelled"
    MEMBER_FAILED = "member_failed"
    KEEPER_LOST = "keeper_lost"
    NODE_LOST = "node_lost"
    NOT_STARTED = "not_started"


INFRASTRUCTURE: Final = frozenset({FailureClass.KEEPER_LOST, FailureClass.NODE_LOST, FailureClass.NOT_STARTED})
"""Classes that are not the job's doing: they are retried."""


class Result(enum.StrEnum):
    """How a job ended, as the state that people see."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    LOST = "lost"


class Exit(Struct, frozen=True, omit_defaults=True):
    """What the keeper saw: exactly one of *code* (0–255) and *signal* (1–64) when a process ran, as waitpid gave it.

    *failure* is set when the end was not the process's own: a launch that failed, the time limit, a lost keeper.
    *ended_s* is wall-clock time, *frozen_s* for how long it was frozen because its node had no lease.
    """

    ended_s: float
    code: int | None = None
    signal: int | None = None
    failure: FailureClass | None = None
    message: str = ""
    frozen_s: float = 0.0


class Outcome(Struct, frozen=True, omit_defaults=True):
    """The verdict on an attempt: *result* and, unless it succeeded, *failure*.

    *code* and *signal* stay the true ones. *frozen_s*: for how many seconds of its run it was frozen.
    """

    result: Result
    code: int | None = None
    signal: int | None = None
    failure: FailureClass | None = None
    message: str = ""
    frozen_s: float = 0.0

    @property
    def exit_status(self) -> int:
        """The status a shell would show: the code, 128 + signal, 0 for a success, else 1."""
        if self.code is not None and (self.code or self.result is Result.SUCCEEDED):
            return self.code
        if self.signal is not None:
            return 128 + self.signal
        return 0 if self.result is Result.SUCCEEDED else 1


def signal_name(number: int) -> str:
    """Return `SIGKILL` for 9; `signal 40` for a number that Python has no name for."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def describe_exit(exit: Exit) -> str:
    if exit.signal is not None:
        return f"killed by {signal_name(exit.signal)}"
    if exit.code is not None:
        return f"exit code {exit.code}"
    return "no exit status"


def classify(exit: Exit, *, cancelled: bool) -> Outcome:
    """Return the verdict on *exit*; *cancelled* says that someone asked for the end before it came.

    A cancel wins over everything but a success cannot be un-happened: code 0 after a cancel still reads `cancelled`,
    with its code, because the asker was promised that.
    """
    return replace(_verdict(exit, cancelled=cancelled), frozen_s=exit.frozen_s)


def _verdict(exit: Exit, *, cancelled: bool) -> Outcome:
    said = exit.message or describe_exit(exit)
    if cancelled:
        return Outcome(Result.CANCELLED, exit.code, exit.signal, FailureClass.CANCELLED, said)
    if exit.failure is FailureClass.TIME_LIMIT:
        return Outcome(Result.TIMEOUT, exit.code, exit.signal, exit.failure, said)
    if exit.failure in INFRASTRUCTURE:
        return Outcome(Result.LOST, exit.code, exit.signal, exit.failure, said)
    if exit.failure is not None:
        return Outcome(Result.FAILED, exit.code, exit.signal, exit.failure, said)
    if exit.signal is not None:
        return Outcome(Result.FAILED, None, exit.signal, FailureClass.SIGNALLED, said)
    if exit.code == 0:
        return Outcome(Result.SUCCEEDED, 0)
    return Outcome(Result.FAILED, exit.code, None, FailureClass.USER_ERROR, said)
