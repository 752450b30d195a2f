"""What processes cost, from /proc."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Cpu(NamedTuple):
    """CPU seconds of a process, and of its children that it has waited for."""

    own_s: float
    children_s: float


def parse_stat(stat: str) -> Cpu:
    """Return the CPU seconds in the text of /proc/PID/stat."""
    # The command in parentheses may itself hold spaces and parentheses.
    fields = stat.rpartition(") ")[2].split()
    user, system, children_user, children_system = (int(field) * _TICK_S for field in fields[11:15])
    return Cpu(user + system, children_user + children_system)


def cpu_of(pid: int) -> Cpu:
    return parse_stat(Path(f"/proc/{pid}/stat").read_text())


def cpu_by_role(pids: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Return CPU seconds by role. What the keepers' children used is the role `jobs`, not the keepers'."""
    used: dict[str, float] = {}
    for role, members in pids.items():
        costs = [cpu_of(pid) for pid in members]
        used[role] = sum(cost.own_s for cost in costs)
        if role == "keepers":
            used["jobs"] = sum(cost.children_s for cost in costs)
        else:
            used[role] += sum(cost.children_s for cost in costs)
    return used


def parse_busy(stat: str) -> float:
    """Return the CPU seconds that the whole machine was busy since its boot, from the text of /proc/stat."""
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = (
        int(field) * _TICK_S for field in stat.splitlines()[0].split()[1:]
    )
    return user + nice + system + irq + softirq + steal


def machine_busy_s() -> float:
    return parse_busy(Path("/proc/stat").read_text())


class Memory(NamedTuple):
    """Memory of a process in KiB. *pss*: its own pages, and its part of those that it shares."""

    pss: int
    private: int


def parse_smaps(rollup: str) -> Memory:
    """Return what /proc/PID/smaps_rollup says."""
    sizes = {
        name.strip(): int(value.split()[0])
        for name, _, value in (line.partition(":") for line in rollup.splitlines()[1:])
        if value.strip().endswith("kB")
    }
    return Memory(sizes["Pss"], sizes["Private_Clean"] + sizes["Private_Dirty"])


def memory_of(pid: int) -> Memory:
    return parse_smaps(Path(f"/proc/{pid}/smaps_rollup").read_text())
