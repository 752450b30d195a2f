"""A member of an attempt that the keeper has started, from its main process to its end."""

from __future__ import annotations

import os
import time

from msgspec import Struct

from shunter.agent.keeper.protocol import Live, Start
from shunter.agent.keeper.tree import Cgroup
from shunter.domain.duration import format_duration
from shunter.domain.outcome import Exit, FailureClass


class Member(Struct):
    """*status* is what waitpid gave, once it did; *pipe* is what `spawn` returned.

    *asked*: it was asked to end while it was frozen, and that begins when it is thawed. *puzzled* counts how often only
    orphans of unknown origin stood in the way of its end. *began_s* and *stop_s*, when it was asked to end, are by the
    clock of `Term.run_s`, *stood_s* is what `Term.stood_s` was when it began, if known. Without a *pid* it waits for
    a lease.
    """

    start: Start
    pid: int
    pipe: int | None
    cgroup: Cgroup | None
    began_s: float = 0.0
    stop_s: float | None = None
    status: int | None = None
    asked: bool = False
    stopping: bool = False
    timed_out: bool = False
    puzzled: int = 0
    stood_s: float | None = None

    def live(self, *, frozen: bool) -> Live:
        of = self.start
        return Live(
            of.allocation, of.job_id, of.attempt, of.rank, self.pid, of.gpus, self.stopping, of.gpu_milli, frozen
        )

    def exit(self, stood_s: float) -> Exit:
        """Return how its main process ended; *stood_s* is what `Term.stood_s` is now."""
        assert self.status is not None
        code = os.waitstatus_to_exitcode(self.status)
        failure, message = None, ""
        if self.timed_out:
            failure = FailureClass.TIME_LIMIT
            message = f"time limit of {format_duration(self.start.time_limit_s or 0)} reached"
        frozen_s = 0.0 if self.stood_s is None else round(stood_s - self.stood_s, 1)
        return Exit(time.time(), code if code >= 0 else None, -code if code < 0 else None, failure, message, frozen_s)
