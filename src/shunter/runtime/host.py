"""What this machine is."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from shunter.errors import InvalidInput

_NODE_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62})", re.ASCII)


def check_node_name(name: str) -> str:
    """Return *name*; raise InvalidInput unless it is 1 to 63 of a-z, 0-9, '.', '_' and '-'."""
    if not _NODE_NAME.fullmatch(name + ("" if len(name) > 1 else "0")):
        raise InvalidInput(
            f"name: expected 1 to 63 of a-z, 0-9, '.', '_' and '-', got {name!r}", field="name", fix="shorten it"
        )
    return name


def host_identity() -> str:
    """Return what tells this machine from others: its host name and machine id."""
    try:
        machine = Path("/etc/machine-id").read_text().strip()[:12]
    except OSError:
        machine = ""
    return f"{socket.gethostname()}/{machine}"


def memory_mib() -> int:
    """Return the machine's memory in MiB."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    return 0
