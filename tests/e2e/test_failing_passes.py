"""A leader whose passes raise stays the leader, says so wherever people look, and goes on once the trouble is over."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from shunter.domain.reason import SchedulerFails
from shunter.domain.report import ClusterView
from tests.e2e.yard import Yard, eventually, yard_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

PART = """
from pathlib import Path

from shunter.scheduling.order import Plain


class Part(Plain):
    def __init__(self, view, now_s):
        if Path({trouble!r}).exists():
            raise KeyError("no\\nsuch owner")
"""
FOUND_BY_NAME = """
import shunter.scheduling

shunter.scheduling.__path__.append({folder!r})
import shunter.scheduling.order

shunter.scheduling.order.__path__.append({folder!r} + "/order")
"""
"""Python runs it at its start: it puts a folder of parts beside Shunter's own."""


@pytest.fixture
def trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file; while it is there, the part `moody` of an order raises, in every process that is started from now on."""
    trouble = tmp_path / "trouble"
    (tmp_path / "order").mkdir()
    (tmp_path / "order" / "moody.py").write_text(PART.format(trouble=str(trouble)))
    (tmp_path / "sitecustomize.py").write_text(FOUND_BY_NAME.format(folder=str(tmp_path)))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
    return trouble


@pytest.fixture
def moody(trouble: Path) -> Iterator[Yard]:
    """A cluster whose policy names that part."""
    yard = Yard(["n1=simulated:2"])
    (yard.home / "policy.yaml").write_text("order: [moody, age]\n")
    try:
        yield yard.up()
        yard.quiet()
    finally:
        yard.close()


def shunter(yard: Yard, *argv: str) -> str:
    env = os.environ | {"SHUNTER_HOME": str(yard.home)}
    return subprocess.run(
        [sys.executable, "-m", "shunter", *argv], env=env, capture_output=True, text=True, check=True
    ).stdout


def failing(yard: Yard, *, times: int = 1) -> SchedulerFails | None:
    said = yard.client.cluster().failing
    return said if said is not None and said.times >= times else None


def test_a_leader_whose_passes_fail_stays_says_so_and_goes_on(moody: Yard, trouble: Path) -> None:
    runs = moody.held("runs", gpus=1)
    moody.wait_for_lines("runs")
    before, pid = moody.client.cluster(), moody.pid("coordinator")
    assert before.failing is None

    trouble.touch()
    waits = moody.held("waits", gpus=1)
    reason = moody.waiting_for(waits, SchedulerFails)
    assert reason.error == "KeyError: 'no\\nsuch owner'"
    said = eventually(lambda: failing(moody, times=3), "it has tried again by itself")
    assert (said.since_s, said.error) == (reason.since_s, reason.error)

    shown = msgspec.json.decode(shunter(moody, "cluster", "--json"), type=ClusterView)
    assert shown.failing is not None
    [line] = [line for line in shunter(moody, "cluster").splitlines() if line.startswith("scheduler")]
    assert re.search(
        r"  failing since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d, \d+ times \(KeyError: .*owner'\); nothing new", line
    )
    assert "scheduler: failing since " in shunter(moody, "queue")

    moody.let_go("runs")  # what runs is not concerned
    assert moody.ended(runs)[0].state == "succeeded"
    assert moody.lines("waits") == []

    trouble.unlink()  # nobody tells the leader
    moody.wait_for_lines("waits")
    eventually(lambda: moody.client.cluster().failing is None, "nobody is told of it any more")
    assert "scheduler" not in shunter(moody, "cluster")
    moody.let_go("waits")
    assert moody.ended(waits)[0].state == "succeeded"

    after = moody.client.cluster()
    assert (after.leader, after.epoch, moody.pid("coordinator")) == (before.leader, before.epoch, pid)
    log = (moody.home / "logs" / "coordinator.log").read_text()
    assert log.count("Traceback") == log.count("scheduling failed") == 1
    assert log.count("scheduling works again") == 1


def test_a_leader_that_begins_in_the_middle_of_it_says_so_too(moody: Yard, trouble: Path) -> None:
    trouble.touch()
    waits = moody.held("waits", gpus=1)
    first = moody.waiting_for(waits, SchedulerFails)
    epoch = moody.client.cluster().epoch
    moody.kill("coordinator")
    moody.new_epoch(epoch)
    said = eventually(lambda: failing(moody), "the next one says so")
    assert said.since_s > first.since_s
    trouble.unlink()
    moody.wait_for_lines("waits")
    moody.let_go("waits")
    assert moody.ended(waits)[0].state == "succeeded"


def test_a_policy_whose_part_does_not_import_changes_nothing(trouble: Path) -> None:
    (trouble.parent / "order" / "broken.py").write_text("1 / 0\n")
    with yard_of("n1=simulated:1") as yard:
        pid = yard.pid("coordinator")
        (yard.home / "policy.yaml").write_text("order: [broken, age]\n")
        error = eventually(lambda: yard.client.policy().error or None, "it is refused")
        assert error.endswith("cannot be read: ZeroDivisionError: division by zero")
        assert yard.ended(yard.submit(["true"]))[0].state == "succeeded"
        assert yard.pid("coordinator") == pid
