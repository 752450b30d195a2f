"""Jobs' logs: the files that their nodes write on shared storage, whole, from the end, or as they grow."""

from __future__ import annotations

import asyncio
import codecs
import errno
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from msgspec import Struct

from shunter.domain.report import JobView
from shunter.errors import Conflict, InvalidInput, NotFound, Unavailable
from shunter.gateway.hub import Hub
from shunter.gateway.service import Service
from shunter.runtime.folders import attempt_folder, output_file

CHUNK: Final = 256 * 1024
TAIL_SCAN: Final = 16 * 1024 * 1024
"""How far from its end a log is searched for the beginning of its tail."""
GROWTH_CHECK_S: Final = 0.1
KEEPALIVE_S: Final = 10.0
STREAMS: Final = ("output", "stderr")


class LogPart(Struct, frozen=True):
    """A piece of a log; *offset* is the byte after it, to go on from."""

    text: str
    offset: int
    attempt: int


class Which(Struct, frozen=True):
    """Which part of a log is asked for: *tail* lines from the end, else from byte *offset*; *rank* is the member."""

    attempt: int | None = None
    stream: str = "output"
    offset: int = 0
    tail: int | None = None
    rank: int = 0

    def path(self, jobs: PurePosixPath, job_id: int, attempt: int) -> Path:
        """Return where the node wrote it."""
        return Path(output_file(attempt_folder(jobs, job_id, attempt), self.rank, self.stream))


def check_stream(stream: str) -> str:
    if stream not in STREAMS:
        raise InvalidInput(
            f"stream: expected output or stderr, got {stream!r}",
            field="stream",
            fix="stderr has its own file only for jobs submitted with split_stderr",
        )
    return stream


def read(path: Path, offset: int, tail: int | None) -> tuple[bytes, int]:
    """Return up to CHUNK bytes from *offset*, or from where the last *tail* lines begin, and the offset after them.

    Nothing if there is no file yet. A tail is looked for in the last TAIL_SCAN bytes only: of a log with fewer line
    ends there, those bytes are the tail. Raises Conflict or Unavailable for what cannot be read.
    """
    try:
        with _open(path) as file:
            size = file.seek(0, os.SEEK_END)
            start = min(offset, size) if tail is None else _tail_start(file, size, tail)
            file.seek(start)
            data = file.read(CHUNK)
            return data, start + len(data)
    except FileNotFoundError:
        return b"", offset
    except OSError as error:
        if isinstance(error, PermissionError | NotADirectoryError) or error.errno == errno.ELOOP:
            raise _unreadable(path, str(error.strerror)) from error
        raise Unavailable(
            f"log: {path} cannot be read: {error.strerror}", fix="check the storage; then try again"
        ) from error


def _open(path: Path) -> BinaryIO:
    """Open *path* for reading, whatever the job has put in its place.

    The job owns the folder: a FIFO there would hold a plain open for ever, and a link could name any of our files.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _unreadable(path, "not a regular file")
    return os.fdopen(descriptor, "rb")


def _unreadable(path: Path, why: str) -> Conflict:
    return Conflict(
        f"log: {path} is not a regular file that the gateway may read ({why})",
        fix="see what the job, or somebody, has put in its place",
    )


def _tail_start(file: BinaryIO, size: int, lines: int) -> int:
    if lines <= 0:
        return size
    position, seen, floor = size, 0, max(size - TAIL_SCAN, 0)
    while position > floor:
        step = min(CHUNK, position - floor)
        position -= step
        file.seek(position)
        block = file.read(step)
        end = len(block) - 1 if position + step == size and block.endswith(b"\n") else len(block)
        while (at := block.rfind(b"\n", 0, end)) >= 0:
            seen += 1
            if seen == lines:
                return position + at + 1
            end = at
    return floor


async def check(service: Service, view: JobView, which: Which) -> None:
    """Refuse what cannot be answered, while the answer can still be a refusal: once it has begun, it is a 200.

    Raises InvalidInput, NotFound, Conflict or Unavailable.
    """
    check_stream(which.stream)
    attempt = check_attempt(view, which.attempt)
    members = view.job.request.nodes
    if which.rank >= members:
        raise NotFound(
            f"rank: expected 0 to {members - 1}, got {which.rank}",
            field="rank",
            fix=f"the job has {members} member{'s' if members > 1 else ''}, counted from 0",
        )
    await asyncio.to_thread(read, which.path(service.folders, view.id, attempt), 0, 0)


async def whole(service: Service, view: JobView, which: Which) -> AsyncIterator[bytes]:
    """Yield the log as it is now."""
    path = which.path(service.folders, view.id, check_attempt(view, which.attempt))
    offset, tail = which.offset, which.tail
    while True:
        data, offset = await asyncio.to_thread(read, path, offset, tail)
        tail = None
        if not data:
            return
        yield data


def check_attempt(view: JobView, attempt: int | None) -> int:
    last = view.attempt
    if attempt is None:
        return last
    if not 1 <= attempt <= last:
        raise NotFound(
            f"attempt: expected 1 to {last}, got {attempt}" if last else "attempt: the job has not started yet",
            field="attempt",
            fix=f"see `shunter show {view.id}`",
        )
    return attempt


async def follow(service: Service, hub: Hub, job_id: int, which: Which) -> AsyncIterator[LogPart | JobView | None]:
    """Yield the log as it grows, over all later attempts unless one is given; at last the job as it ended.

    None is yielded when nothing came for a while, so that the connection is not taken for dead.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    version = hub.version()
    view, _ = await service.job(job_id)
    number, offset, tail = check_attempt(view, which.attempt), which.offset, which.tail
    quiet_s = 0.0
    while True:
        # The state is read before the file: what an ended job wrote is all there.
        while True:
            path = which.path(service.folders, job_id, number)
            data, offset = await asyncio.to_thread(read, path, offset, tail)
            tail = None
            if not data:
                break
            quiet_s = 0.0
            if text := decoder.decode(data):
                # The offset to go on from is before a character of which only the first bytes are there.
                yield LogPart(text, offset - len(decoder.getstate()[0]), number)
        if which.attempt is None and number < view.attempt:
            number, offset = number + 1 if number else view.attempt, 0
            continue
        if view.ended_s is not None or number < view.attempt:
            yield view
            return
        await asyncio.sleep(GROWTH_CHECK_S)
        quiet_s += GROWTH_CHECK_S
        if quiet_s >= KEEPALIVE_S:
            quiet_s = 0.0
            yield None
        if hub.version() != version:
            version = hub.version()
            view, _ = await service.job(job_id)
