"""The end of the jobs when the keeper itself is killed and nobody is there to notice: nothing runs unwatched.

The parent-death signal reaches only the processes that the keeper started itself. So a second, idle process waits for
the keeper's end, and then ends everything in its cgroup.
Without cgroups the next keeper does it, as soon as a node worker starts one.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from pathlib import Path

from shunter.agent.keeper.tree import Cgroup


def watch_over(base: Path) -> tuple[int, int]:
    """Fork the guardian of the cgroups below *base*; return its pid and the descriptor that keeps it waiting.

    It also inherits the keeper's lock: the next keeper begins only when this one's jobs have been told to end.
    """
    keeper = os.getpid()
    read, write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.close(write)
            os.setsid()
            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            _wait(keeper, read)
            cgroup = Cgroup(base)
            cgroup.kill()
            cgroup.remove()
        finally:
            os._exit(0)
    os.close(read)
    return pid, write


def _wait(keeper: int, pipe: int) -> None:
    """Wait for the end of the *keeper*.

    The *pipe* alone would not do: a child that was frozen at birth, before its command replaced it, holds it too.
    """
    poller = select.poll()
    poller.register(pipe, select.POLLIN)
    with contextlib.suppress(OSError):  # there are pidfds since Linux 5.3, usable cgroups since 5.14
        poller.register(os.pidfd_open(keeper), select.POLLIN)
    if os.getppid() == keeper:
        poller.poll()
