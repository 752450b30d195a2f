"""What this machine is."""

from __future__ import annotations

import re
import secrets
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


def node_identity(folder: Path) -> str:
    """Return what tells the node in *folder* from all others: host, folder, and a word drawn at its first start.

    The word is what a wiped folder, a fresh container or a second machine with this host's name do not have.
    """
    path = folder / "identity"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{secrets.token_hex(4)}")
        fresh.write_text(secrets.token_hex(8))
        fresh.replace(path)
    return f"{socket.gethostname()}:{folder}:{path.read_text().strip()}"


def memory_mib() -> int:
    """Return the machine's memory in MiB."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    return 0
