"""What every role is told: which cluster, which Redis, which folders.

Options win over the environment, that over the home.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from msgspec import Struct

from shunter.errors import InvalidInput
from shunter.runtime.paths import default_home, socket_path

DEFAULT_CLUSTER: Final = "main"
DEFAULT_PORT: Final = 8470


class Settings(Struct, frozen=True):
    """*redis* is a URL; *storage* the folder, the same on every node, that jobs write to."""

    cluster: str
    redis: str
    home: Path
    storage: Path


def settings(
    *, cluster: str | None = None, redis: str | None = None, home: str | None = None, storage: str | None = None
) -> Settings:
    """Return the settings of this process. Raises InvalidInput for a storage that is not a folder's path."""
    folder = Path(home).expanduser().absolute() if home else default_home()
    given = storage or os.environ.get("SHUNTER_STORAGE") or str(folder / "storage")
    if "://" in given:
        raise InvalidInput(
            f"storage: expected a folder, got {given!r}",
            field="storage",
            fix="mount it (NFS, s3fs) and give its path; URLs hold scripts only so far",
        )
    return Settings(
        cluster or os.environ.get("SHUNTER_CLUSTER") or DEFAULT_CLUSTER,
        redis or os.environ.get("SHUNTER_REDIS") or f"unix://{socket_path(folder / 'redis' / 'redis.sock')}",
        folder,
        Path(given).expanduser().absolute(),
    )
