"""What else is asked of a keeper while its lease has passed: starts wait, stops wait or kill, and no limit runs."""

from __future__ import annotations

import signal
from pathlib import Path

import msgspec
import psutil
import pytest

from shunter.agent.keeper.protocol import Ended, Live, Stop
from shunter.domain.outcome import FailureClass
from shunter.runtime.process import boot_time_s
from tests.agent.conftest import BOTH
from tests.agent.rig import Rig, eventually, gone
from tests.agent.stamps import Stamps, pass_by, stamping
from tests.agent.test_keeper_limits import FOREVER_S, POLITE, STUBBORN, started, verdict

pytestmark = BOTH
LONG_S = 600.0
PAST_S = -1.0


def freeze(rig: Rig, live: Live) -> None:
    rig.lease(PAST_S)
    rig.frozen(live)


# stops


def test_a_frozen_job_that_must_not_go_on_is_killed_with_all_its_children(rig: Rig) -> None:
    child = rig.sign("child")
    live = rig.start("(setsid bash -c 'echo $$ > $SIGNS/child; exec sleep 600' $0 &); exec sleep 600")
    other = rig.start("sleep 600")
    orphan = int(child.word())
    freeze(rig, other)
    rig.stop(live, now=True)
    assert verdict(rig.ended(live)) == (None, signal.SIGKILL, None)
    assert gone(orphan)
    assert not gone(other.pid)


def test_what_was_stopped_before_the_lease_came_never_runs_again(rig: Rig) -> None:
    stamps = Stamps(rig.jobs / "stamps")
    live = rig.start(*stamping(stamps.path))
    stamps.wait()
    freeze(rig, live)
    before = stamps.all()
    rig.stop(live, now=True)
    rig.lease(LONG_S)
    rig.ended(live)
    assert stamps.all() == before


def test_a_stop_of_a_frozen_job_begins_when_it_is_thawed(rig: Rig) -> None:
    live = started(rig, POLITE, grace_s=FOREVER_S)
    freeze(rig, live)
    rig.stop(live)
    rig.stop(live)
    assert rig.connect() == [msgspec.structs.replace(live, frozen=True)]
    assert rig.sign("said").silent()
    assert not (rig.jobs / "1/stop").exists()
    rig.lease(LONG_S)
    assert rig.sign("said").word() == "stopping"
    assert verdict(rig.ended(live)) == (85, None, None)
    assert (rig.jobs / "1/stop").exists()


# limits


def test_neither_time_limit_nor_grace_runs_while_frozen(rig: Rig) -> None:
    stamps = Stamps(rig.jobs / "stamps")
    begun_s = boot_time_s()
    limited = rig.start(*stamping(stamps.path), time_limit_s=1, grace_s=0)
    said = rig.sign("said")
    graced = rig.start(*STUBBORN, grace_s=1)
    assert said.word() == "ready"
    rig.stop(graced)
    assert said.word() == "stopping"
    freeze(rig, limited)
    ran_s = stamps.wait() - begun_s
    pass_by(boot_time_s() + 1.2)
    assert not gone(limited.pid)
    assert not gone(graced.pid)
    thawed_s = boot_time_s()
    rig.lease(LONG_S)
    assert verdict(rig.ended(limited)) == (None, signal.SIGTERM, FailureClass.TIME_LIMIT)
    assert verdict(rig.ended(graced)) == (None, signal.SIGKILL, None)
    # It had its second, of which the stamps show all but the start of the interpreter.
    assert ran_s + (stamps.wait() - thawed_s) > 0.8


# starts


def test_what_is_to_start_after_the_deadline_waits_for_the_next_lease(rig: Rig) -> None:
    rig.lease(PAST_S)
    request = rig.request("echo once; exit 3", gpus=(1,))
    rig.client.send(request, request)
    waits = rig.live(request.allocation)
    assert (waits.pid, waits.frozen, waits.gpus) == (0, True, (1,))
    rig.disconnect()
    assert rig.connect() == [waits]
    rig.client.send(request)
    rig.lease(PAST_S)
    rig.ended(rig.stopped_at_once("sleep 600"))
    assert not (rig.jobs / str(request.job_id)).exists()
    rig.lease(LONG_S)
    ended = rig.ended(waits)
    assert ended.exit.code == 3
    assert rig.output(ended) == "once\n"


@pytest.mark.parametrize("now", [True, False])
def test_what_waits_for_a_lease_and_is_stopped_ends_without_having_run(rig: Rig, now: bool) -> None:
    rig.lease(PAST_S)
    ended = rig.ended(rig.stopped_at_once("touch $SIGNS/ran", now=now))
    assert verdict(ended) == (None, None, FailureClass.NOT_STARTED)
    assert ended.exit.message == "stopped before it was started"
    rig.lease(LONG_S)
    assert rig.run("exit 3").exit.code == 3
    assert not (rig.jobs / "ran").exists()


@pytest.mark.parametrize("then", ["renewed", "stopped", "killed"])
def test_a_start_that_the_deadline_overtakes_runs_once_and_only_with_a_lease(
    rig: Rig, containment: str, then: str
) -> None:
    """Its process is there, and frozen, before its command is; and the keeper does not wait for that."""
    if containment != "cgroup":
        pytest.skip("without cgroups a process cannot be frozen before it is there")
    (Path(rig.ready.cgroup) / "cgroup.freeze").write_text("1")
    rig.lease(0.3)
    request = rig.request("echo once; exit 3")
    rig.client.send(request)
    live = rig.frozen(rig.live(request.allocation))
    assert psutil.Process(live.pid).cmdline() == rig.keeper.cmdline()
    if then != "renewed":
        rig.client.send(Stop(request.allocation, now=then == "killed"))
    rig.lease(LONG_S)
    ended = verdict(rig.ended(request.allocation))
    assert (ended == (3, None, None)) == (then == "renewed")
    if then == "killed":
        assert ended == (None, signal.SIGKILL, None)
    elif then == "stopped":  # which of the two the thawed process comes to first
        assert ended in ((None, signal.SIGTERM, None), (None, None, FailureClass.NOT_STARTED))
    assert (rig.jobs / "1/output.log").read_text() == ("once\n" if then == "renewed" else "")


def test_a_keeper_that_dies_while_a_start_is_frozen_leaves_nothing(rig: Rig, containment: str) -> None:
    """The frozen process has all that the keeper had open, its lock and its pipes among it."""
    if containment != "cgroup":
        pytest.skip("without cgroups a process cannot be frozen before it is there")
    (Path(rig.ready.cgroup) / "cgroup.freeze").write_text("1")
    rig.lease(0.3)
    live = rig.frozen(rig.live(rig.send("sleep 600")))
    helpers = rig.helpers()
    rig.kill_keeper()
    eventually(lambda: gone(live.pid) and all(gone(one.pid) for one in helpers), "it and the helpers are gone")
    (lost,) = rig.connect()
    assert isinstance(lost, Ended)
    assert lost.exit.failure is FailureClass.KEEPER_LOST
    assert rig.run("exit 3").exit.code == 3


def test_a_command_that_takes_long_to_be_started_does_not_hold_up_the_others(rig: Rig, containment: str) -> None:
    """As on a file server that does not answer, for which a frozen cgroup stands in."""
    if containment != "cgroup":
        pytest.skip("about what a frozen cgroup can stand in for")
    base = Path(rig.ready.cgroup)
    (base / "cgroup.freeze").write_text("1")
    first = rig.start("no-such-command")
    assert rig.connect() == [first]
    (base / "cgroup.freeze").write_text("0")
    assert rig.ended(first).exit.message == "command not found: no-such-command"
