"""Texts of /proc, as kernels write them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from benchmarks import procs
from benchmarks.facts import cpu_model, filesystem_of
from benchmarks.procs import Cpu, Memory, cpu_by_role, cpu_of, memory_of, parse_busy, parse_smaps, parse_stat

TICKS = os.sysconf("SC_CLK_TCK")
STAT = (
    "4242 (a) strange (name) S 1 4242 4242 0 -1 4194560 1200 300 0 0 150 50 20 30 20 0 3 0 99 1 2 "
    "18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 1 0 0 0 0 0\n"
)
SMAPS = """\
55d0c0000000-7ffd00000000 ---p 00000000 00:00 0                          [rollup]
Rss:               20480 kB
Pss:               12345 kB
Pss_Dirty:         10000 kB
Shared_Clean:       8000 kB
Private_Clean:       480 kB
Private_Dirty:     12000 kB
"""


def test_cpu_of_a_process_with_a_strange_name() -> None:
    assert parse_stat(STAT) == Cpu(200 / TICKS, 50 / TICKS)


def test_what_keepers_children_used_is_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {1: Cpu(1.0, 0.25), 2: Cpu(2.0, 4.0), 3: Cpu(3.0, 8.0)}
    monkeypatch.setattr(procs, "cpu_of", costs.__getitem__)
    assert cpu_by_role({"redis": [1], "keepers": [2, 3]}) == {"redis": 1.25, "keepers": 5.0, "jobs": 12.0}


def test_busy_leaves_idle_and_waiting_out() -> None:
    assert parse_busy("cpu  100 20 30 9999 8888 4 5 6 50 0\ncpu0 1 2 3\n") == pytest.approx(165 / TICKS)


def test_memory() -> None:
    assert parse_smaps(SMAPS) == Memory(pss=12345, private=12480)


def test_this_process() -> None:
    assert cpu_of(os.getpid()).own_s > 0
    assert memory_of(os.getpid()).pss > 1000


def test_the_cpus_name() -> None:
    assert cpu_model("processor\t: 0\nmodel name\t: Fast One\nmodel name\t: Fast One\n") == "Fast One"
    assert cpu_model("processor\t: 0\n")


def test_the_innermost_file_system() -> None:
    mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\ntmpfs /dev tmpfs rw 0 0\n/dev/vdb /deve xfs rw 0 0\n"
    assert filesystem_of(Path("/dev/shm/x"), mounts) == "tmpfs"
    assert filesystem_of(Path("/devel"), mounts) == "ext4"
