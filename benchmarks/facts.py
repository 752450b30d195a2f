"""What the figures were measured on: without it they mean nothing."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

from shunter import __version__
from shunter.runtime.host import memory_mib
from shunter.store.embedded import find_server, server_version


def machine_facts(benchmark: str, folder: Path) -> dict[str, Any]:
    """Return the facts for the first line; *folder* is where the cluster's files will be."""
    return {
        "benchmark": benchmark,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": cpu_model(Path("/proc/cpuinfo").read_text()),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": memory_mib(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "redis": ".".join(map(str, server_version(find_server()))),
        "shunter": __version__,
        "commit": _commit(),
        "filesystem": filesystem_of(folder, Path("/proc/mounts").read_text()),
        "load_average": [round(one, 2) for one in os.getloadavg()],
    }


def cpu_model(cpuinfo: str) -> str:
    """Return the model's name; some architectures say none, then the machine's kind."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def filesystem_of(folder: Path, mounts: str) -> str:
    """Return the type of the file system that *folder* is on: syncs cost nothing on some, milliseconds on others."""
    best, kind = "", ""
    for line in mounts.splitlines():
        _, mount, this_kind, *_ = line.split()
        inside = mount == "/" or folder == Path(mount) or Path(mount) in folder.parents
        if inside and len(mount) >= len(best):
            best, kind = mount, this_kind
    return kind


def _commit() -> str:
    """Return the commit of this checkout, with `+` when files differ from it; empty outside of git."""
    here = Path(__file__).parent
    try:
        commit = _git(here, "rev-parse", "--short=12", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no", "--", "../src")
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", folder, *arguments], check=True, capture_output=True, text=True, timeout=30
    ).stdout.strip()
