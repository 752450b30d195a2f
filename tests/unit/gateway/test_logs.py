"""Reading a log: whole, from an offset, from the end, and while it grows."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from shunter.domain.ids import JobId
from shunter.domain.job import Job, Request
from shunter.domain.outcome import Outcome, Result
from shunter.domain.phase import Ended, Phase, Queued
from shunter.domain.report import JobView, view_of
from shunter.errors import Conflict, InvalidInput, NotFound, ShunterError, Unavailable
from shunter.gateway import logs
from shunter.gateway.logs import LogPart, Which, check_attempt, check_stream, read
from shunter.runtime.folders import attempt_folder, output_file
from tests.strategies import BRIEF

JOB: Final = Job(JobId(7), "train", "ada", Request(1), 1.0)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "output.log"


def tail_of(path: Path, lines: int) -> bytes:
    """Return the whole tail, piece by piece, as `whole` does."""
    data, offset = read(path, 0, lines)
    found = data
    while data:
        data, offset = read(path, offset, None)
        found += data
    return found


# read


def test_a_log_is_read_from_any_offset(log: Path) -> None:
    log.write_bytes(b"one\ntwo\n")
    assert read(log, 0, None) == (b"one\ntwo\n", 8)
    assert read(log, 4, None) == (b"two\n", 8)
    assert read(log, 8, None) == (b"", 8)


def test_an_offset_beyond_the_end_reads_nothing_and_comes_back_to_it(log: Path) -> None:
    log.write_bytes(b"one\n")
    assert read(log, 100, None) == (b"", 4)


@pytest.mark.parametrize("tail", [None, 0, 5])
def test_a_log_that_is_not_there_yet_is_empty(log: Path, tail: int | None) -> None:
    assert read(log, 3, tail) == (b"", 3)


@pytest.mark.parametrize(
    ("text", "lines", "wanted"),
    [
        (b"", 3, b""),
        (b"\n", 1, b"\n"),
        (b"a", 1, b"a"),
        (b"a\n", 1, b"a\n"),
        (b"a\nb\nc\n", 0, b""),
        (b"a\nb\nc\n", 1, b"c\n"),
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc", 2, b"b\nc"),
        (b"a\nb\nc\n", 3, b"a\nb\nc\n"),
        (b"a\nb\nc\n", 99, b"a\nb\nc\n"),
        (b"a\n\n\n", 2, b"\n\n"),
        (b"\n\na", 1, b"a"),
    ],
)
def test_the_tail_is_the_last_lines(log: Path, text: bytes, lines: int, wanted: bytes) -> None:
    log.write_bytes(text)
    assert read(log, 0, lines) == (wanted, len(text))


@BRIEF
@given(
    st.lists(st.sampled_from([b"", b"x", b"xy" * 9, "\u00e9".encode()]), max_size=30),
    st.booleans(),
    st.integers(0, 12),
    st.integers(1, 9),
)
def test_the_tail_is_what_splitting_into_lines_says_however_small_the_blocks(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], ended: bool, number: int, chunk: int
) -> None:
    text = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    path = tmp_path_factory.mktemp("log") / "output.log"
    path.write_bytes(text)
    wanted = b"".join(text.splitlines(keepends=True)[-number:]) if number else b""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "CHUNK", chunk)
        assert tail_of(path, number) == wanted


def test_a_large_log_comes_in_pieces_and_so_does_its_tail(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "CHUNK", 10)
    log.write_bytes(b"0123456789abcdef\nend\n")
    assert read(log, 0, None) == (b"0123456789", 10)
    assert read(log, 10, None) == (b"abcdef\nend", 20)
    assert read(log, 0, 2) == (b"0123456789", 10)
    assert tail_of(log, 2) == b"0123456789abcdef\nend\n"


def test_a_tail_is_looked_for_near_the_end_only(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "CHUNK", 4)
    monkeypatch.setattr(logs, "TAIL_SCAN", 10)
    log.write_bytes(b"x" * 100)
    assert tail_of(log, 5) == b"x" * 10
    log.write_bytes(b"first\n" + b"x" * 100 + b"\nlast\n")
    assert tail_of(log, 1) == b"last\n"
    assert tail_of(log, 3) == b"xxxx\nlast\n"


def test_what_a_job_puts_in_place_of_its_log_is_refused_at_once(log: Path, tmp_path: Path) -> None:
    def check_refused() -> None:
        for tail in (None, 0, 5):
            with pytest.raises(Conflict, match=r"output\.log is not a regular file"):
                read(log, 0, tail)

    os.mkfifo(log)
    check_refused()
    log.unlink()
    log.mkdir()
    check_refused()
    log.rmdir()
    (tmp_path / "token").write_text("secret")
    log.symlink_to(tmp_path / "token")
    check_refused()
    log.unlink()
    log.symlink_to("/dev/zero")
    check_refused()


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.EACCES, Conflict), (errno.ENOTDIR, Conflict), (errno.EIO, Unavailable), (errno.EMFILE, Unavailable)],
)
def test_a_log_that_cannot_be_opened_is_told_with_its_path(
    log: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[ShunterError]
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(kind) as caught:
        read(log, 0, None)
    assert str(log) in caught.value.message
    assert os.strerror(number) in caught.value.message
    assert caught.value.fix


def test_a_refused_log_leaves_no_open_file(log: Path) -> None:
    log.mkdir()
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    for _ in range(5):
        with pytest.raises(Conflict):
            read(log, 0, None)
    assert len(os.listdir("/proc/self/fd")) == len(before)  # noqa: PTH208


# which file


@pytest.mark.parametrize(("stream", "rank"), [("output", 0), ("output", 3), ("stderr", 0), ("stderr", 3)])
def test_the_gateway_looks_where_the_node_writes(tmp_path: Path, stream: str, rank: int) -> None:
    written = output_file(attempt_folder(PurePosixPath(tmp_path), 7, 2), rank, stream)
    assert Which(stream=stream, rank=rank).path(PurePosixPath(tmp_path), 7, 2) == Path(written)


def test_only_two_streams_exist() -> None:
    assert [check_stream(name) for name in ("output", "stderr")] == ["output", "stderr"]
    with pytest.raises(InvalidInput, match="stream: expected output or stderr, got 'stdout'"):
        check_stream("stdout")


def test_an_attempt_that_never_was_is_not_found() -> None:
    view = view_of(JOB, Queued(1.0, attempt=2), cluster="main", now_s=2.0)
    assert [check_attempt(view, number) for number in (None, 1, 2)] == [2, 1, 2]
    for number in (0, 3, -1):
        with pytest.raises(NotFound, match=f"attempt: expected 1 to 2, got {number}"):
            check_attempt(view, number)
    with pytest.raises(NotFound, match="the job has not started yet"):
        check_attempt(view_of(JOB, Queued(1.0), cluster="main", now_s=2.0), 1)


# following


class OneJob:
    """A service whose one job is in *phases*, one after the other at each look."""

    def __init__(self, storage: Path, *phases: Phase) -> None:
        self.folders = PurePosixPath(storage)
        self.phases = list(phases)

    async def job(self, job_id: int) -> tuple[JobView, str]:
        assert job_id == JOB.id
        phase = self.phases.pop(0) if len(self.phases) > 1 else self.phases[0]
        return view_of(JOB, phase, cluster="main", now_s=2.0), "1-0"


class EveryTime:
    """A hub that always has news."""

    def __init__(self) -> None:
        self.number = 0

    def version(self) -> int:
        self.number += 1
        return self.number


DONE: Final = Ended(Outcome(Result.SUCCEEDED, 0), 9.0, 1)


def followed(storage: Path, *phases: Phase, which: Which | None = None) -> list[LogPart | JobView | None]:
    async def story() -> list[LogPart | JobView | None]:
        service: Any = OneJob(storage, *phases)
        hub: Any = EveryTime()
        return [part async for part in logs.follow(service, hub, 7, which or Which())]

    return asyncio.run(story())


def write(storage: Path, attempt: int, text: bytes) -> None:
    path = Which().path(PurePosixPath(storage), 7, attempt)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "GROWTH_CHECK_S", 0.001)


def test_a_followed_log_ends_with_the_job(tmp_path: Path) -> None:
    write(tmp_path, 1, b"all of it\n")
    *parts, end = followed(tmp_path, Queued(1.0), Queued(1.0), DONE)
    assert parts == [LogPart("all of it\n", 10, 1)]
    assert isinstance(end, JobView)
    assert end.state == "succeeded"


def test_later_attempts_follow_unless_one_was_asked_for(tmp_path: Path) -> None:
    write(tmp_path, 1, b"first\n")
    write(tmp_path, 2, b"second\n")
    phases = (Queued(1.0, attempt=1), replace(DONE, attempt=2))
    assert followed(tmp_path, *phases)[:-1] == [LogPart("first\n", 6, 1), LogPart("second\n", 7, 2)]
    assert followed(tmp_path, *phases, which=Which(attempt=1))[:-1] == [LogPart("first\n", 6, 1)]


def test_the_tail_of_a_followed_log_is_only_its_beginning(tmp_path: Path) -> None:
    write(tmp_path, 1, b"a\nb\nc\n")
    assert followed(tmp_path, DONE, which=Which(tail=1))[:-1] == [LogPart("c\n", 6, 1)]
    assert followed(tmp_path, DONE, which=Which(offset=2))[:-1] == [LogPart("b\nc\n", 6, 1)]


def test_a_character_cut_in_two_is_told_whole_and_may_be_resumed_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "CHUNK", 4)
    write(tmp_path, 1, "abc\u20acdef".encode())  # the euro sign is bytes 3 to 5
    parts = [part for part in followed(tmp_path, DONE) if isinstance(part, LogPart)]
    assert "".join(part.text for part in parts) == "abc\u20acdef"
    assert parts[0] == LogPart("abc", 3, 1)
    rest = followed(tmp_path, DONE, which=Which(offset=parts[0].offset))
    assert "".join(part.text for part in rest if isinstance(part, LogPart)) == "\u20acdef"


def test_bytes_that_are_no_text_do_not_stop_a_log(tmp_path: Path) -> None:
    write(tmp_path, 1, b"a\xff\xfeb\n")
    assert followed(tmp_path, DONE)[0] == LogPart("a\ufffd\ufffdb\n", 5, 1)


def test_a_log_that_stays_quiet_is_kept_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "KEEPALIVE_S", 0.003)
    write(tmp_path, 1, b"")
    running = Queued(1.0, attempt=1)
    assert None in followed(tmp_path, *[running] * 12, DONE)
