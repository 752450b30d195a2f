"""Linux process controls that Python does not offer (prctl(2), clone3(2)), and the clock that counts suspended time."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_CLONE3: Final = 435
"""The system call's number, the same on every architecture (Linux 5.3)."""

_CLONE_INTO_CGROUP: Final = 0x2_0000_0000
_libc = ctypes.CDLL(None, use_errno=True)


class _CloneArgs(ctypes.Structure):
    """`struct clone_args` of Linux 5.7; what is not named here is zero."""

    _fields_ = (
        ("flags", ctypes.c_uint64), ("unused_", ctypes.c_uint64 * 3), ("exit_signal", ctypes.c_uint64),
        ("unused", ctypes.c_uint64 * 5), ("cgroup", ctypes.c_uint64),
    )  # fmt: skip


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process *signal_number* when the thread that started it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)


def become_subreaper() -> None:
    """Make orphaned descendants children of this process, wherever they hide in sessions of their own."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def fork_into_cgroup(folder: int) -> int:
    """Fork, the child starting out in the cgroup v2 whose *folder* is open; return as `os.fork` does.

    Moving a running process there instead takes a lock of the whole machine, 10 to 18 ms each (measured on Linux 6.18).
    Python's own preparations for a fork do not run: call it in a process with one thread, and let the child only exec.
    Raises OSError where the kernel cannot do it (before 5.7) or may not.
    """
    arguments = _CloneArgs(flags=_CLONE_INTO_CGROUP, exit_signal=signal.SIGCHLD, cgroup=folder)
    # PyDLL keeps the interpreter's lock, which the child would never get back.
    pid: int = ctypes.PyDLL(None, use_errno=True).syscall(
        _CLONE3, ctypes.byref(arguments), ctypes.c_size_t(ctypes.sizeof(arguments))
    )
    if pid < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return pid


def tied_to_parent(argv: Sequence[str], parent: int) -> list[str]:
    """Return *argv* wrapped so that it gets SIGTERM when process *parent*, which starts it, ends."""
    return [sys.executable, "-S", "-E", __file__, str(parent), *argv]


def boot_time_s() -> float:
    """Seconds since boot, suspended time included: leases and limits are measured by it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if __name__ == "__main__":
    die_with_parent(signal.SIGTERM)
    if os.getppid() == int(sys.argv[1]):  # the parent may have died before prctl was called
        os.execvp(sys.argv[2], sys.argv[2:])
