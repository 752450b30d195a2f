"""What the keeper must not forget: a line for each start, end and acknowledgement, in a file that outlives it.

An end is on disk before anyone hears of it. If the disk is full the end is kept in memory and written when there is
room: a full disk may cost the record of an end only together with the keeper's own death.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from shunter.agent.keeper.protocol import Ended
from shunter.agent.keeper.tree import Leader

COMPACT_BYTES: Final = 1 << 20


class Begun(Struct, frozen=True, tag="begun"):
    """A member is about to be started; *cgroup* is its folder, if it has one, else *leader* its main process."""

    allocation: str
    job_id: int
    attempt: int
    rank: int
    marker: str
    cgroup: str = ""
    leader: Leader | None = None


class Acked(Struct, frozen=True, tag="acked"):
    allocation: str


Line = Begun | Ended | Acked
_APPENDING: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


class Journal:
    """*begun*: started and not known to have ended; *ended*: ended and not acknowledged. Both by allocation."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.begun: dict[str, Begun] = {}
        self.ended: dict[str, Ended] = {}
        self._unwritten = b""
        self._replay()
        self._file = os.open(path, _APPENDING, 0o600)
        self._compact()

    def _replay(self) -> None:
        if not self.path.exists():
            return
        *lines, torn = self.path.read_bytes().split(b"\n")
        if torn:
            # What was being written when the machine went down: nobody has heard of it. The next line must not join it.
            self._unwritten = b"\n"
        for text in lines:
            with contextlib.suppress(msgspec.DecodeError):
                self._note(_decode(text))

    def _note(self, line: Line) -> None:
        match line:
            case Begun():
                self.begun[line.allocation] = line
            case Ended():
                self.begun.pop(line.allocation, None)
                self.ended[line.allocation] = line
            case Acked():
                self.ended.pop(line.allocation, None)

    def add(self, *lines: Line, durable: bool = False) -> None:
        """Note *lines*; with *durable* they are on disk when this returns, unless the disk is full."""
        for line in lines:
            self._note(line)
            self._unwritten += _encode(line) + b"\n"
        self.flush(durable=durable)

    def flush(self, *, durable: bool = False) -> bool:
        """Write what is not written yet; return whether all is."""
        while self._unwritten:
            try:
                written = os.write(self._file, self._unwritten)
            except OSError:
                return False
            self._unwritten = self._unwritten[written:]
        if durable:
            with contextlib.suppress(OSError):
                os.fdatasync(self._file)
        if os.fstat(self._file).st_size > COMPACT_BYTES:
            self._compact()
        return True

    def _compact(self) -> None:
        """Rewrite the file with what still matters."""
        fresh = self.path.with_suffix(".new")
        lines = b"".join(_encode(line) + b"\n" for line in (*self.begun.values(), *self.ended.values()))
        try:
            fresh.unlink(missing_ok=True)
            with os.fdopen(os.open(fresh, _APPENDING, 0o600), "wb") as file:
                file.write(lines)
                file.flush()
                os.fdatasync(
                    file.fileno()
                )  # else a loss of power could leave an empty file in the place of the old one
            fresh.replace(self.path)
            self._unwritten = b""
            os.close(self._file)
            self._file = os.open(self.path, _APPENDING, 0o600)
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink()
