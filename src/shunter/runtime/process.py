"""Two Linux process controls that Python does not offer (prctl(2)), and the clock that counts suspended time too."""

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
_libc = ctypes.CDLL(None, use_errno=True)


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
