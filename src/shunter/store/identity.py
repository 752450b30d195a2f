"""Which data set a process belongs to, so that it obeys no other one that is found behind the same URL.

A data set says who it is in the field `identity` of its `meta`: a word that the first process drew that met it. Each
process notes that word in a file of its home, and from then on every command that it runs asks for it: a Redis that
came back empty, or another cluster's, is answered nothing and asked nothing until an operator has decided.
"""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path
from typing import Final

import structlog

from shunter.errors import ForeignStore
from shunter.store.command import Command, call, plain
from shunter.store.keys import Keys

FIELD: Final = "identity"
_NAME: Final = "cluster-identity"

log = structlog.get_logger("store")


def home_record(home: Path, cluster: str) -> Path:
    """Return the file in *home* that names the data set of *cluster*, for its gateways and coordinators."""
    return home / f"{_NAME}.{cluster}"


def node_record(folder: Path) -> Path:
    """Return the file that names the data set that the node of *folder* joined, whatever its cluster is called."""
    return folder / _NAME


def records(home: Path) -> list[Path]:
    """Return all such files of *home* that there are."""
    return sorted([*home.glob(f"{_NAME}.*"), *home.glob(f"nodes/*/{_NAME}")])


def read(path: Path) -> str:
    """Return the identity that is noted in *path*, nothing if none is."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return path.read_text().strip()
    return ""


def identify(meta: str) -> Command[str]:
    """Return the identity of the data set, which gets one if it has none."""
    return call("identify", [meta], [secrets.token_hex(8)], lambda reply: reply.decode())


def found(meta: str) -> Command[str]:
    """Return the identity of the data set, nothing if it has none: it is empty, or as old as the first versions."""
    return plain("HGET", meta, FIELD, parse=lambda reply: reply.decode() if reply else "")


class Identity:
    """The data set that *path* names, else the first one that is met there. May be shared between threads."""

    def __init__(self, keys: Keys, path: Path) -> None:
        self.meta: str = keys.meta
        self.known = read(path)
        self.cluster = keys.cluster
        self._path = path
        self._noted = bool(self.known)

    def note(self, met: str) -> str:
        """Belong to the data set that calls itself *met*."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}")
            fresh.write_text(f"{met}\n")
            fresh.replace(self._path)
            self._noted = True
        except OSError as error:
            # Without the file it is known until this process ends, which is better than not to serve at all.
            log.warning("the data set's identity cannot be noted", path=str(self._path), error=str(error))
        self.known = met
        return met

    def face(self, other: str) -> None:
        """Look whether an operator has decided for the data set *other* (``''``: one without an identity).

        Raises ForeignStore if not.
        """
        recorded = read(self._path)
        if recorded or self._noted:
            self.known = recorded  # nothing: whatever is met next is ours
        if self.known in ("", other):
            return
        what = f"found {other}" if other else "found none: it is empty"
        raise ForeignStore(
            f"redis: not the data set of cluster {self.cluster!r}: expected identity {self.known}, {what}",
            fix="bring its data back; or give them up: "
            f"`shunter rejoin` on every machine (here with --home {self._home})",
        )

    @property
    def _home(self) -> Path:
        return self._path.parent if self._path.name != _NAME else self._path.parent.parent.parent
