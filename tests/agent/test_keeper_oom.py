"""When memory is short the kernel shall end jobs, not those that watch them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shunter.agent.keeper import oom
from shunter.agent.keeper.spawn import spawn
from shunter.agent.keeper.term import Term
from tests.agent.conftest import BOTH
from tests.agent.rig import Rig


def score(pid: int | str) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def python(script: str) -> list[int]:
    """Run *script* in a process of its own; return the numbers that it prints."""
    command = [sys.executable, "-c", f"from shunter.agent.keeper.oom import set_score, shield\n{script}"]
    return [int(word) for word in subprocess.run(command, capture_output=True, check=True).stdout.split()]


@pytest.fixture
def allowed() -> None:
    if python("print(int(set_score(-900)))") != [1]:
        pytest.skip("lowering oom_score_adj takes CAP_SYS_RESOURCE")


@BOTH
@pytest.mark.usefixtures("allowed")
def test_the_keeper_and_its_helpers_are_shielded_and_its_jobs_are_not(rig: Rig) -> None:
    assert [score(one.pid) for one in (rig.keeper, *rig.helpers())] == [-900] * (1 + len(rig.helpers()))
    assert rig.helpers()
    ended = rig.run("cat /proc/self/oom_score_adj; true")
    assert int(rig.output(ended)) == max(score("self"), 0)


@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize(("before", "jobs"), [(0, 0), (300, 300), (-900, 0), (-1000, 0)])
def test_jobs_get_what_the_keeper_was_started_with_but_no_shield(before: int, jobs: int) -> None:
    script = f"set_score({before}); print(shield()); print(open('/proc/self/oom_score_adj').read())"
    assert python(script) == [jobs, min(before, -900)]


def test_a_job_is_given_the_score_that_it_shall_have(tmp_path: Path) -> None:
    """Anybody may raise it: so this much is seen on every machine."""
    rig = Rig(tmp_path)
    request = rig.request("cat", "/proc/self/oom_score_adj")
    wanted = score("self") + 100
    pid, pipe = spawn(request, None, Term(), wanted)
    assert pipe is None
    os.waitpid(pid, 0)
    assert int(Path(request.stdout).read_text()) == wanted


def test_a_keeper_that_may_not_shield_itself_works_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(oom, "_OWN", tmp_path / "none" / "oom_score_adj")
    assert oom.shield() == 0
    assert not oom.set_score(0)
