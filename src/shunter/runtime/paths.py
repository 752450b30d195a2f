"""Where Shunter keeps things on a machine."""

from __future__ import annotations

import os
import tempfile
from hashlib import sha1
from pathlib import Path
from typing import Final

_SOCKET_PATH_MAX: Final = 100
"""Linux allows 107 bytes in the path of a socket."""


def default_home() -> Path:
    """Return SHUNTER_HOME, else `shunter` in the XDG state folder (`~/.local/state`)."""
    given = os.environ.get("SHUNTER_HOME")
    if given:
        return Path(given).expanduser().absolute()
    state = os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()
    return Path(state) / "shunter"


def socket_path(path: Path) -> Path:
    """Return *path*, or a short stand-in for it, the same each time, when it is too long for a socket."""
    if len(str(path).encode()) <= _SOCKET_PATH_MAX:
        return path
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    digest = sha1(str(path).encode(), usedforsecurity=False).hexdigest()[:12]
    return base / f"shunter-{os.getuid()}-{digest}.sock"
