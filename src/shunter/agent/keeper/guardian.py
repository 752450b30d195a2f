"""The end of the jobs when the keeper itself is killed and nobody is there to notice: nothing runs unwatched.

The parent-death signal reaches only the processes that the keeper started itself. So a second, idle process holds the
other end of a pipe: when the pipe closes, the keeper is gone, and everything in its cgroup is ended in one write.
Without cgroups the next keeper does it, as soon as a node worker starts one.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from shunter.agent.keeper.tree import Cgroup


def watch_over(base: Path) -> tuple[int, int]:
    """Fork the guardian of the cgroups below *base*; return its pid and the descriptor that keeps it waiting.

    It also inherits the keeper's lock: the next keeper begins only when this one's jobs have been told to end.
    """
    read, write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.close(write)
            os.setsid()
            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            os.read(read, 1)
            cgroup = Cgroup(base)
            cgroup.kill()
            cgroup.remove()
        finally:
            os._exit(0)
    os.close(read)
    return pid, write
