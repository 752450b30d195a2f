"""Freezing all that a keeper has started, and thawing it.

With cgroups it is one write, for all members' cgroups lie below one, and what is forked into a frozen one is frozen at
birth. What runs outside of it (no cgroups here, one that could not be made, a job that moved itself out) gets SIGSTOP.
All of that hangs below the keeper, the subreaper of everything that it started, so nothing needs to be known of the
members: not their sessions, nor what they have in their environment, nor whether they are just being started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from typing import Final

from shunter.agent.keeper.tree import Cgroup, Stat, newest_first, stat_of
from shunter.runtime.process import boot_time_s

CGROUP_WAIT_S: Final = 0.3
"""How long the kernel may take to freeze the cgroup (it takes a millisecond) before SIGSTOP is sent as well."""

LOOKS_S: Final = 0.5
"""How long to look for running processes at a stretch; with CGROUP_WAIT_S less than the second that is promised."""

POLL_S: Final = 0.002
QUIET_LOOKS: Final = 2
"""A process that is reparented while we look may be missed once."""


class Freezer:
    """Of all below process *keeper* but *spare*, and this process; *base* is the cgroup of the members, if any.

    With *adopt*, processes that are stopped already were so by an earlier Freezer.
    """

    def __init__(self, keeper: int, base: Cgroup | None, spare: Iterable[int], *, adopt: bool = False) -> None:
        self._base = base
        # Where climbing ends: 0 is the parent of the first process, which the keeper itself may be, in a container.
        self._roots = dict.fromkeys((0, *spare, os.getpid()), False) | {keeper: True}
        self._adopt = adopt
        self._stopped: set[tuple[int, int]] = set()
        self._reluctant = False

    def freeze(self) -> None:
        """Freeze all; returns when a whole look has found nothing that runs, or after about 0.8 s."""
        if self._base is not None:
            self._base.freeze(frozen=True)
            limit_s = boot_time_s() + CGROUP_WAIT_S
            while not self._base.frozen() and boot_time_s() < limit_s:
                time.sleep(POLL_S)
            self._reluctant = not self._base.frozen()
        limit_s = boot_time_s() + LOOKS_S
        quiet = 0
        while quiet < QUIET_LOOKS and boot_time_s() < limit_s:
            if self._stop_running():
                quiet = 0
                time.sleep(POLL_S / 2)
            else:
                quiet += 1
        self._adopt = False

    def hold(self) -> bool:
        """Look again: what somebody woke, or what was being started, is stopped too. Return whether there was any."""
        if self._base is not None and not self._base.frozen():
            self._base.freeze(frozen=True)
        return self._stop_running()

    def thaw(self) -> None:
        """Continue what was frozen here; what the job itself had stopped stays so."""
        if self._adopt:
            self._stop_running()  # to learn whom an earlier one had stopped
            self._adopt = False
        for pid, ticks in self._stopped:
            stat = stat_of(pid)
            if stat is not None and stat.ticks == ticks:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGCONT)
        self._stopped.clear()
        self._reluctant = False
        if self._base is not None:
            self._base.freeze(frozen=False)

    def _stop_running(self) -> bool:
        """Stop what runs; return whether anything did. The newest first: a tree that grows is caught at its tips."""
        belongs = dict(self._roots)
        ran = False
        for pid in newest_first():
            if pid not in self._roots and self._belongs(pid, belongs):
                stat = stat_of(pid)
                if stat is not None and not stat.dead() and self._is_for_signals(pid):
                    ran |= self._stop(pid, stat)
        return ran

    def _stop(self, pid: int, stat: Stat) -> bool:
        """Stop it unless it is stopped; return whether it ran."""
        key = (pid, stat.ticks)
        if stat.state == "T":
            if self._adopt:
                self._stopped.add(key)
            return False
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGSTOP)
        first = key not in self._stopped
        self._stopped.add(key)
        # One that waits for a device, or is held by a debugger, stops before its next instruction: no need to see it.
        return first or stat.state in "RS"

    def _is_for_signals(self, pid: int) -> bool:
        """Whether the cgroup does not hold it."""
        if self._base is None or self._reluctant:
            return True
        try:
            with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                own = next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), "")
        except OSError:
            return True
        return f"/{self._base.folder.name}/" not in own

    def _belongs(self, pid: int, known: dict[int, bool]) -> bool:
        """Whether *pid* is below the keeper; *known* is who is and who is not, and is added to."""
        for _ in range(3):  # again where a parent ended while we climbed: the child has another by now
            path: list[int] = []
            at = pid
            while at not in known and (stat := stat_of(at)) is not None:
                path.append(at)
                at = stat.parent
            if at in known:
                known.update(dict.fromkeys(path, known[at]))
                return known[at]
            if at == pid:
                return False
        return False
