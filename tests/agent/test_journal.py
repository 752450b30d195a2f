"""The keeper's journal: what it must not forget, whatever the disk does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shunter.agent.keeper import journal as module
from shunter.agent.keeper.journal import Acked, Begun, Journal
from shunter.agent.keeper.protocol import Ended
from shunter.domain.outcome import Exit
from tests.agent.conftest import fill


def begun(number: int) -> Begun:
    return Begun(f"1.{number}", number, 1, 0, f"c:1.{number}:0")


def ended(number: int, message: str = "") -> Ended:
    return Ended(f"1.{number}", number, 1, 0, Exit(5.0, code=number % 256, message=message))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keeper.journal"


def reopened(path: Path) -> tuple[list[int], list[int]]:
    """Return the job ids of what began and of what ended, as a new keeper finds them."""
    journal = Journal(path)
    os.close(journal._file)
    return [one.job_id for one in journal.begun.values()], [one.job_id for one in journal.ended.values()]


def test_a_new_journal_is_empty(path: Path) -> None:
    assert reopened(path) == ([], [])


def test_what_began_is_known_until_it_ended_and_its_end_until_it_is_acknowledged(path: Path) -> None:
    journal = Journal(path)
    journal.add(begun(1), begun(2), begun(3))
    assert reopened(path) == ([1, 2, 3], [])
    journal = Journal(path)
    journal.add(ended(1), ended(2), durable=True)
    assert reopened(path) == ([3], [1, 2])
    journal = Journal(path)
    journal.add(Acked("1.1"))
    assert reopened(path) == ([3], [2])


@pytest.mark.parametrize("torn_bytes", range(1, 40, 6))
def test_a_torn_last_line_is_forgotten_and_the_rest_is_kept(path: Path, torn_bytes: int) -> None:
    Journal(path).add(begun(1), ended(1), begun(2))
    path.write_bytes(path.read_bytes() + module._encode(ended(2))[:torn_bytes])
    assert reopened(path) == ([2], [1])


def test_a_line_that_no_version_wrote_is_passed_over(path: Path) -> None:
    path.write_bytes(b'{"type":"danced"}\n\xff\xfe\n[]\n' + module._encode(ended(1)) + b"\n")
    assert reopened(path) == ([], [1])


def test_what_comes_after_a_torn_line_is_kept_though_the_journal_could_not_be_rewritten(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when the new keeper opens the journal, and has room again when it writes."""
    path.write_bytes(module._encode(ended(1)) + b"\n" + module._encode(ended(2))[:20])
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "_compact", lambda _: None)
        Journal(path).add(ended(3), durable=True)
    assert reopened(path) == ([], [1, 3])


def test_a_journal_is_rewritten_before_it_grows_without_bound(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPACT_BYTES", 10_000)
    journal = Journal(path)
    journal.add(begun(9_000), ended(9_001))
    for number in range(500):
        journal.add(begun(number), ended(number), Acked(f"1.{number}"))
        assert path.stat().st_size < 11_000
    assert reopened(path) == ([9_000], [9_001])


def test_only_its_owner_may_read_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPACT_BYTES", 100)
    journal = Journal(path)
    for number in range(5):
        journal.add(begun(number))
        assert path.stat().st_mode & 0o077 == 0


def test_no_unfinished_rewrite_is_left_behind(path: Path) -> None:
    path.with_suffix(".new").write_bytes(b"half")
    Journal(path).add(ended(1))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


# a full disk


def test_what_does_not_fit_on_the_disk_is_written_in_order_when_there_is_room(small_disk: Callable[..., Path]) -> None:
    disk = small_disk()
    path = disk / "keeper.journal"
    journal = Journal(path)
    journal.add(begun(1), begun(2))
    ballast = fill(disk)
    for number in (1, 2, 3):
        journal.add(ended(number, message="x" * 5_000), durable=True)
        assert not journal.flush()
    assert sorted(journal.ended) == ["1.1", "1.2", "1.3"]
    ballast.unlink()
    assert journal.flush()
    assert reopened(path) == ([], [1, 2, 3])


def test_an_append_that_was_cut_short_by_a_full_disk_goes_on_where_it_stopped(small_disk: Callable[..., Path]) -> None:
    disk = small_disk()
    path = disk / "keeper.journal"
    journal = Journal(path)
    ballast = fill(disk)
    os.truncate(ballast, ballast.stat().st_size - 8_192)
    journal.add(ended(1, message="x" * 50_000), durable=True)
    assert 0 < path.stat().st_size < 50_000
    ballast.unlink()
    assert journal.flush()
    assert reopened(path) == ([], [1])


def test_a_rewrite_that_does_not_fit_leaves_the_old_journal_in_use(
    small_disk: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = small_disk()
    path = disk / "keeper.journal"
    journal = Journal(path)
    monkeypatch.setattr(module, "COMPACT_BYTES", 100)
    for number in range(1, 4):
        journal.add(ended(number, message="x" * 5_000))
    ballast = fill(disk)
    journal.add(Acked("1.1"))
    assert [file.name for file in disk.glob("keeper*")] == [path.name]
    ballast.unlink()
    assert journal.flush()
    assert reopened(path) == ([], [2, 3])
