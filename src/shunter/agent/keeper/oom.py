"""Whom the kernel ends first when the node's memory is full: jobs, and not the processes that watch them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

SHIELDED: Final = -900
"""Of -1000 to 1000 (proc(5), oom_score_adj); -1000 would never be ended, were it the one that leaks."""

_OWN: Final = Path("/proc/self/oom_score_adj")


def shield() -> int:
    """Shield this process where that is allowed, and return the value that jobs it starts shall have.

    That is its own from before, but nothing better than the usual 0: a node worker may have shielded itself first.
    """
    try:
        before = int(_OWN.read_text())
    except (OSError, ValueError):
        return 0
    if before > SHIELDED:
        set_score(SHIELDED)
    return max(before, 0)


def set_score(value: int) -> bool:
    """Give this process *value*; return whether it has it. Anybody may raise it; lowering takes CAP_SYS_RESOURCE."""
    try:
        _OWN.write_text(f"{value}\n")
    except OSError:
        return False
    return True
