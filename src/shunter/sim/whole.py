"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """Open a file that takes the place of *path* when the block ends well, and else leaves nothing behind.

    It is written beside *path*, for a file cannot be moved in one step from one file system to another. An OSError
    names *path*.
    """
    path = path.resolve()  # of a link, what it points to is replaced
    partial = path.with_name(f".{path.name[:200]}.{os.getpid()}.part")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            yield file
        partial.replace(path)
    except BaseException as error:  # Ctrl-C too
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(partial):
            error.filename = str(path)
        raise
