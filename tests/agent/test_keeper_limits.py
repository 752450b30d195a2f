"""Time limits and stops: the stop file, SIGTERM, the grace, and SIGKILL to all that is left."""

from __future__ import annotations

import os
import signal
import sys
from typing import Final

from shunter.agent.keeper.protocol import Ended, Live, Stop
from shunter.domain.duration import format_duration
from shunter.domain.outcome import FailureClass
from tests.agent.conftest import BOTH
from tests.agent.rig import Rig, eventually, gone

FOREVER_S: Final = 600
WAITING: Final = """
import os, signal, sys

def say(word):
    with open(os.environ["SIGNS"] + "/said", "w") as sign:
        sign.write(word + chr(10))

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
say("ready")
while signal.sigwait([signal.SIGTERM]):
"""


def job(on_sigterm: str) -> tuple[str, ...]:
    """Return a command that does *on_sigterm* (Python) whenever it gets SIGTERM, and nothing else."""
    return (sys.executable, "-SEc", f"{WAITING}    {on_sigterm}")


POLITE: Final = job("say('stopping'); sys.exit(85)")
STUBBORN: Final = job("say('stopping')")

pytestmark = BOTH


def verdict(ended: Ended) -> tuple[int | None, int | None, FailureClass | None]:
    return ended.exit.code, ended.exit.signal, ended.exit.failure


def started(rig: Rig, argv: tuple[str, ...], **changes: object) -> Live:
    """Start a job that says `ready` to the sign `said`, and wait for that."""
    said = rig.sign("said")
    live = rig.start(*argv, **changes)
    assert said.word() == "ready"
    return live


# time limits


def test_at_its_time_limit_a_job_gets_sigterm_and_may_end_in_its_own_way(rig: Rig) -> None:
    live = started(rig, POLITE, time_limit_s=1, grace_s=FOREVER_S)
    ended = rig.ended(live)
    assert rig.sign("said").word() == "stopping"
    assert verdict(ended) == (85, None, FailureClass.TIME_LIMIT)
    assert ended.exit.message == f"time limit of {format_duration(1)} reached"


def test_a_job_that_ignores_sigterm_is_killed_after_its_grace(rig: Rig) -> None:
    live = started(rig, STUBBORN, time_limit_s=1, grace_s=1)
    ended = rig.ended(live)
    assert rig.sign("said").word() == "stopping"
    assert verdict(ended) == (None, signal.SIGKILL, FailureClass.TIME_LIMIT)


def test_a_time_limit_is_enforced_while_no_worker_is_there(rig: Rig) -> None:
    live = started(rig, POLITE, time_limit_s=1, grace_s=FOREVER_S)
    rig.disconnect()
    assert rig.sign("said").word() == "stopping"
    eventually(lambda: gone(live.pid), "it is gone")
    has = eventually(lambda: [one for one in rig.connect() if isinstance(one, Ended)] or None, "its end is told")
    assert [verdict(one) for one in has] == [(85, None, FailureClass.TIME_LIMIT)]


def test_a_job_that_ends_before_its_time_limit_did_not_reach_it(rig: Rig) -> None:
    assert verdict(rig.run("exit 4", time_limit_s=1)) == (4, None, None)


# stops


def test_a_stopped_job_finds_the_stop_file_then_gets_sigterm_and_its_grace(rig: Rig) -> None:
    live = started(rig, job(f"sys.exit(85 if os.path.exists('{rig.jobs}/1/stop') else 1)"), grace_s=FOREVER_S)
    assert not (rig.jobs / "1/stop").exists()
    rig.stop(live)
    assert rig.live(live.allocation, stopping=True).pid == live.pid
    assert verdict(rig.ended(live)) == (85, None, None)


def test_a_stopped_job_that_ignores_sigterm_is_killed_after_its_grace(rig: Rig) -> None:
    live = started(rig, STUBBORN, grace_s=1)
    rig.stop(live)
    assert rig.sign("said").word() == "stopping"
    assert verdict(rig.ended(live)) == (None, signal.SIGKILL, None)


def test_a_grace_of_0_is_none(rig: Rig) -> None:
    live = started(rig, STUBBORN, grace_s=0)
    rig.stop(live)
    assert verdict(rig.ended(live)) == (None, signal.SIGKILL, None)


def test_a_stop_now_skips_the_grace(rig: Rig) -> None:
    live = started(rig, POLITE, grace_s=FOREVER_S)
    rig.stop(live, now=True)
    assert verdict(rig.ended(live)) == (None, signal.SIGKILL, None)
    assert rig.sign("said").silent()


def test_a_stop_now_cuts_a_grace_short(rig: Rig) -> None:
    live = started(rig, STUBBORN, grace_s=FOREVER_S)
    rig.stop(live)
    assert rig.sign("said").word() == "stopping"
    rig.stop(live, now=True)
    assert verdict(rig.ended(live)) == (None, signal.SIGKILL, None)


def test_a_second_stop_sends_no_second_sigterm(rig: Rig) -> None:
    live = started(rig, STUBBORN, grace_s=1)
    rig.stop(live)
    rig.stop(live)
    rig.ended(live)
    assert rig.sign("said").word() == "stopping"
    assert rig.sign("said").silent()


def test_a_stop_of_what_the_keeper_does_not_have_is_harmless(rig: Rig) -> None:
    ended = rig.run("exit 3")
    rig.client.send(Stop("9.9"), Stop(ended.allocation), Stop(ended.allocation, now=True))
    assert rig.run("exit 4").exit.code == 4


def test_a_stop_file_that_cannot_be_written_does_not_keep_the_job_alive(rig: Rig) -> None:
    live = started(rig, POLITE, stop_file="/no/such/folder/stop")
    rig.stop(live)
    assert rig.ended(live).exit.code == 85


# stopped (SIGSTOP) jobs


def test_a_frozen_job_wakes_up_to_be_stopped(rig: Rig) -> None:
    live = started(rig, POLITE, grace_s=FOREVER_S)
    os.kill(live.pid, signal.SIGSTOP)
    rig.stop(live)
    assert verdict(rig.ended(live)) == (85, None, None)


def test_a_frozen_job_can_be_killed(rig: Rig) -> None:
    live = started(rig, POLITE, grace_s=FOREVER_S)
    os.kill(live.pid, signal.SIGSTOP)
    rig.stop(live, now=True)
    assert verdict(rig.ended(live)) == (None, signal.SIGKILL, None)


def test_a_job_that_freezes_itself_when_told_to_stop_is_killed_after_its_grace(rig: Rig) -> None:
    live = started(rig, job("os.kill(os.getpid(), signal.SIGSTOP)"), grace_s=1)
    rig.stop(live)
    assert verdict(rig.ended(live)) == (None, signal.SIGKILL, None)


def test_no_stop_file_is_left_where_none_was_asked(rig: Rig) -> None:
    live = started(rig, POLITE, stop_file="")
    rig.stop(live)
    rig.ended(live)
    assert [path.name for path in (rig.jobs / str(live.job_id)).iterdir()] == ["output.log"]
