"""A full disk costs output, never the truth about an end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from shunter.agent.keeper.protocol import Ended
from shunter.agent.keeper.server import LINGER_S
from tests.agent.conftest import fill
from tests.agent.rig import Rig, eventually, gone


def test_the_exit_status_of_a_job_that_filled_the_disk_is_its_own(rig: Rig, small_disk: Callable[..., Path]) -> None:
    log = f"{small_disk()}/output.log"
    ended = rig.run("head -c 5000000 /dev/zero; echo $? >> $SIGNS/status; exit 7", stdout=log, stderr=log)
    assert (ended.exit.code, ended.exit.failure) == (7, None)
    assert (rig.jobs / "status").read_text() == "1\n"


@pytest.fixture
def cramped(small_disk: Callable[..., Path], containment: str) -> Iterator[tuple[Rig, Path]]:
    """A rig whose keeper has its folder on a small disk of its own; the jobs write elsewhere."""
    disk = small_disk()
    rig = Rig(disk)
    try:
        rig.connect()
        yield rig, disk
    finally:
        (disk / "ballast").unlink(missing_ok=True)
        rig.finish()


def elsewhere(tmp_path: Path, number: int) -> dict[str, str]:
    folder = tmp_path / f"job-{number}"
    return {"folder": str(folder), "stdout": f"{folder}/log", "stderr": f"{folder}/log"}


def test_an_end_that_cannot_be_written_is_told_and_repeated(cramped: tuple[Rig, Path], tmp_path: Path) -> None:
    rig, disk = cramped
    fill(disk)
    ended = [rig.run(f"exit {number}", **elsewhere(tmp_path, number)) for number in (3, 4)]
    rig.disconnect()
    assert rig.connect() == ended
    assert [one.exit.code for one in ended] == [3, 4]


def test_an_end_that_could_not_be_written_is_written_as_soon_as_there_is_room(
    cramped: tuple[Rig, Path], tmp_path: Path
) -> None:
    rig, disk = cramped
    ballast = fill(disk)
    ended = rig.run("exit 3", **elsewhere(tmp_path, 1))
    journal = rig.folder / "keeper.journal"
    assert b'"ended"' not in journal.read_bytes()
    ballast.unlink()
    eventually(lambda: b'"ended"' in journal.read_bytes(), "the end is written")
    rig.kill_keeper()
    assert rig.connect() == [ended]


def test_a_keeper_whose_journal_is_not_written_does_not_end_by_itself(
    cramped: tuple[Rig, Path], tmp_path: Path
) -> None:
    """Idle or not: the only record of the end is in its memory."""
    rig, disk = cramped
    ballast = fill(disk)
    ended = rig.run("exit 3", **elsewhere(tmp_path, 1))
    rig.disconnect()
    with pytest.raises(psutil.TimeoutExpired):
        rig.keeper.wait(LINGER_S + 2.0)
    ballast.unlink()
    eventually(lambda: gone(rig.ready.pid), "it has written its journal and ended")
    assert rig.connect() == [ended]


def test_jobs_go_on_while_the_keepers_disk_is_full(cramped: tuple[Rig, Path], tmp_path: Path) -> None:
    rig, disk = cramped
    live = rig.start("sleep 600", **elsewhere(tmp_path, 1))
    fill(disk)
    for number in range(2, 6):
        rig.ack(rig.run(f"exit {number}", **elsewhere(tmp_path, number)))
    assert not gone(live.pid)
    rig.stop(live, now=True)
    assert isinstance(rig.ended(live), Ended)
