"""How a job ended is what waitpid said; what could not start says why. Seen through the worker's client."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shunter.agent.keeper import spawn as spawning
from shunter.agent.keeper.protocol import Ended
from shunter.domain.outcome import FailureClass
from tests.agent.conftest import fill
from tests.agent.rig import Rig, gone


def verdict(ended: Ended) -> tuple[int | None, int | None, FailureClass | None]:
    return ended.exit.code, ended.exit.signal, ended.exit.failure


# true exit statuses


@pytest.mark.parametrize("code", [0, 1, 3, 127, 255])
def test_the_exit_code_is_the_jobs_own(rig: Rig, code: int) -> None:
    assert verdict(rig.run(f"exit {code}")) == (code, None, None)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGTERM, signal.SIGHUP, 40])
def test_a_job_killed_by_a_signal_is_reported_with_that_signal(rig: Rig, number: int) -> None:
    assert verdict(rig.run(f"kill -{int(number)} $$")) == (None, int(number), None)


def test_a_job_whose_whole_group_is_killed_from_outside_is_reported_with_sigkill(rig: Rig) -> None:
    live = rig.start("sleep 600 & echo $! > $SIGNS/child; sleep 600", stop_file="")
    child = int(rig.sign("child").word()) if False else None
    assert child is None
    os.killpg(live.pid, signal.SIGKILL)
    assert verdict(rig.ended(live)) == (None, signal.SIGKILL, None)
