"""Freezing by itself, below a process that stands for the keeper: where the kernel will not freeze a cgroup in time,
and what a freezer that takes over knows of its predecessor's work."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from shunter.agent.keeper.freezer import CGROUP_WAIT_S, LOOKS_S, Freezer
from shunter.agent.keeper.tree import Cgroup, cgroup_base
from shunter.runtime.process import boot_time_s
from tests.agent.rig import eventually
from tests.agent.stamps import PROMISED_S, Stamps, assert_still, stamping


class Family:
    """A process with two children that stamp, and one that has stopped itself."""

    def __init__(self, folder: Path) -> None:
        self.stamps = [Stamps(folder / name) for name in ("one", "two")]
        python, *arguments = stamping("")
        script = '"$0" "$@" "$ONE" & "$0" "$@" "$TWO" & bash -c \'kill -STOP $$; :\' & wait'
        command = ["bash", "-c", script, python, *arguments[:-1]]
        env = {"ONE": str(self.stamps[0].path), "TWO": str(self.stamps[1].path), "PATH": "/usr/bin:/bin"}
        self.keeper = subprocess.Popen(command, env=env)
        for stamps in self.stamps:
            stamps.wait()
        self.sleeper = eventually(self._stopped, "one has stopped itself")

    def _stopped(self) -> psutil.Process | None:
        children = psutil.Process(self.keeper.pid).children()
        return next((one for one in children if one.status() == psutil.STATUS_STOPPED), None)

    def still(self) -> None:
        assert_still(*self.stamps)

    def runs(self) -> None:
        for stamps in self.stamps:
            stamps.wait(after_s=boot_time_s())

    def end(self) -> None:
        for process in psutil.Process(self.keeper.pid).children(recursive=True):
            process.kill()
        self.keeper.kill()
        self.keeper.wait()


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    family = Family(tmp_path)
    try:
        yield family
    finally:
        family.end()


def test_a_cgroup_that_does_not_freeze_in_time_is_stopped_by_signals_and_within_the_promise(
    family: Family, tmp_path: Path
) -> None:
    """An ordinary folder: never `frozen 1`, as where a process waits for a file server."""
    assert CGROUP_WAIT_S + LOOKS_S < PROMISED_S
    freezer = Freezer(family.keeper.pid, Cgroup(tmp_path), [])
    freezer.freeze()
    assert (tmp_path / "cgroup.freeze").read_text() == "1"
    family.still()
    freezer.thaw()
    assert (tmp_path / "cgroup.freeze").read_text() == "0"
    family.runs()
    assert family.sleeper.status() == psutil.STATUS_STOPPED


class Reluctant(Cgroup):
    """One that the kernel does not freeze."""

    def freeze(self, *, frozen: bool) -> None: ...

    def frozen(self) -> bool:
        return False


def test_what_is_in_a_cgroup_that_does_not_freeze_is_stopped_as_well(family: Family, cgroups_work: bool) -> None:
    base = cgroup_base("shunter-test") if cgroups_work else None
    if base is None:
        pytest.skip("about cgroups")
    member = base / "member"
    member.mkdir()
    try:
        for child in psutil.Process(family.keeper.pid).children():
            (member / "cgroup.procs").write_text(str(child.pid))
        freezer = Freezer(family.keeper.pid, Reluctant(base), [])
        freezer.freeze()
        family.still()
        freezer.thaw()
        family.runs()
    finally:
        Cgroup(member).kill()
        eventually(lambda: not Cgroup(base).populated(), "it is empty")
        member.rmdir()
        base.rmdir()


def test_what_is_spared_is_spared_and_so_is_the_keeper(family: Family) -> None:
    one, two, *_ = psutil.Process(family.keeper.pid).children()
    Freezer(family.keeper.pid, None, [one.pid]).freeze()
    assert one.status() != psutil.STATUS_STOPPED
    assert two.status() == psutil.STATUS_STOPPED
    assert psutil.Process(family.keeper.pid).status() != psutil.STATUS_STOPPED


@pytest.mark.parametrize("looked", [True, False])
def test_a_freezer_that_takes_over_thaws_what_its_predecessor_froze(family: Family, looked: bool) -> None:
    """It cannot tell who had stopped itself: that is thawed too."""
    Freezer(family.keeper.pid, None, []).freeze()
    successor = Freezer(family.keeper.pid, None, [], adopt=True)
    if looked:
        successor.hold()
    successor.thaw()
    family.runs()
    successor.freeze()
    family.still()
    successor.thaw()
    family.runs()


def test_what_the_job_stops_later_is_left_alone_by_the_next_thaw(family: Family) -> None:
    freezer = Freezer(family.keeper.pid, None, [])
    freezer.freeze()
    freezer.thaw()
    family.runs()
    one = psutil.Process(family.keeper.pid).children()[0]
    one.suspend()
    eventually(lambda: one.status() == psutil.STATUS_STOPPED, "it is stopped")
    freezer.freeze()
    freezer.thaw()
    assert one.status() == psutil.STATUS_STOPPED
