"""When its lease has passed a member is frozen within a second, whoever is there or not; a later lease thaws it."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import psutil
import pytest

from shunter.agent.keeper.protocol import Lease, Live, encode
from shunter.runtime.paths import socket_path
from shunter.runtime.process import boot_time_s
from tests.agent.conftest import BOTH
from tests.agent.rig import Rig, eventually, gone
from tests.agent.stamps import (
    HEADLESS,
    PROMISED_S,
    QUIET_S,
    STAMPING,
    Stamps,
    Worker,
    assert_frozen_by,
    assert_still,
    pass_by,
    stamping,
)

pytestmark = BOTH
LONG_S = 600.0
PAST_S = -1.0


def started(rig: Rig, name: str = "stamps", **changes: object) -> tuple[Live, Stamps]:
    """Start a job that stamps, and wait for its first."""
    stamps = Stamps(rig.jobs / name)
    live = rig.start(*stamping(stamps.path), **changes)
    stamps.wait()
    return live, stamps


# who is there


@pytest.mark.parametrize("state", ["killed", "stopped", "disconnected"])
def test_a_job_runs_while_its_worker_renews_and_freezes_when_that_is(rig: Rig, state: str) -> None:
    live, stamps = started(rig)
    worker = Worker(rig, term_s=0.3)
    try:
        first_s = worker.granted.wait()
        stamps.wait(after_s=first_s + 0.05)  # renewed in time, more than once
        deadline_s = worker.put(state)
        assert_frozen_by(deadline_s, stamps, watch_s=PROMISED_S if state == "killed" else QUIET_S)
        rig.frozen(live)
        assert not gone(live.pid)
    finally:
        worker.close()


def test_a_later_lease_thaws_and_the_last_one_counts(rig: Rig) -> None:
    live, stamps = started(rig)
    assert rig.lease(PAST_S) < boot_time_s()
    assert rig.frozen(live).pid == live.pid
    assert_still(stamps)
    rig.lease(PAST_S)
    rig.lease(LONG_S)
    assert not rig.frozen(live, frozen=False).frozen
    stamps.wait(after_s=boot_time_s())
    rig.lease(LONG_S)
    rig.lease(0.1)
    rig.frozen(live)
    assert_still(stamps)
    rig.lease(None)
    rig.frozen(live, frozen=False)
    stamps.wait(after_s=boot_time_s())


def test_a_worker_that_connects_is_told_what_is_frozen(rig: Rig) -> None:
    live, _ = started(rig)
    rig.lease(PAST_S)
    frozen = rig.frozen(live)
    rig.disconnect()
    assert rig.connect() == [frozen]


def test_a_worker_of_version_1_knows_no_lease_and_nothing_is_ever_frozen(rig: Rig) -> None:
    live, stamps = started(rig)
    assert b"frozen" not in encode(live)
    stamps.wait(after_s=boot_time_s() + 0.2)


def test_a_lease_that_an_earlier_worker_sent_does_not_count_once_a_later_one_has_sent_its_own(rig: Rig) -> None:
    _, stamps = started(rig)
    earlier = rig.client
    rig.connect()
    live = rig.start("sleep 600")
    rig.lease(0.1)
    rig.frozen(live)
    earlier.send(Lease(None))
    assert_still(stamps)


def test_a_worker_that_does_not_read_delays_neither_the_fence_nor_the_next_lease(rig: Rig) -> None:
    live, stamps = started(rig)
    with socket.socket(socket.AF_UNIX) as sleeper:
        sleeper.connect(str(socket_path(rig.folder / "keeper.sock")))
        requests = [rig.request("no-such-command", argv=["/" + "x" * 2000]) for _ in range(300)]
        sleeper.sendall(b"".join(encode(request) + b"\n" for request in requests))
        deadline_s = rig.lease(0.3)
        assert_frozen_by(deadline_s, stamps)
        rig.lease(LONG_S)
        rig.frozen(live, frozen=False)


# whom it finds

FAMILY = """
stamp() { exec "$0" -SEc "$STAMPING" "$SIGNS/$1"; }
stamp background &
sh -c '"$0" -SEc "$STAMPING" $SIGNS/shell & wait' "$0" &
(stamp orphan &)
setsid bash -c 'exec "$0" -SEc "$STAMPING" $SIGNS/session' "$0" &
(setsid bash -c 'exec "$0" -SEc "$STAMPING" $SIGNS/daemon' "$0" &)
(setsid env -i bash -c 'exec "$0" -SEc "$1" $2/hidden' "$0" "$STAMPING" $SIGNS &)
bash -c 'echo $$ > $SIGNS/pid; kill -STOP $$; echo woken > $SIGNS/woken' &
"$0" -SEc "$HEADLESS" $SIGNS/headless &
stamp main
"""


@pytest.mark.parametrize("cgroup", ["as is", "cannot be made"])
def test_all_of_a_family_is_frozen_and_thawed_but_what_had_stopped_itself(rig: Rig, cgroup: str) -> None:
    if cgroup == "cannot be made":
        if not rig.ready.cgroup:
            pytest.skip("about cgroups")
        (Path(rig.ready.cgroup) / "cgroup.max.descendants").write_text("0")
    pid = rig.sign("pid")
    live = rig.start("bash", "-c", FAMILY, sys.executable, env={"STAMPING": STAMPING, "HEADLESS": HEADLESS})
    names = ["main", "background", "shell", "orphan", "session", "daemon", "hidden", "headless"]
    family = [Stamps(rig.jobs / name) for name in names]
    for stamps in family:
        stamps.wait()
    sleeper = psutil.Process(int(pid.word()))
    eventually(lambda: sleeper.status() == psutil.STATUS_STOPPED, "it has stopped itself")
    rig.lease(PAST_S)
    rig.frozen(live)
    assert_still(*family)
    rig.lease(LONG_S)
    rig.frozen(live, frozen=False)
    for stamps in family:
        stamps.wait(after_s=boot_time_s())
    assert sleeper.status() == psutil.STATUS_STOPPED
    assert not (rig.jobs / "woken").exists()


GROWING = """
grow() { echo >> $SIGNS/generations; sleep 0.001; grow & }
for branch in 1 2 3; do grow & done
exec sleep 600
"""


def test_a_tree_that_grows_while_it_is_frozen_does_not_escape(rig: Rig) -> None:
    generations = rig.jobs / "generations"
    generations.touch()
    live = rig.start(GROWING)
    eventually(lambda: len(generations.read_text()) > 30, "the tree has grown")
    rig.lease(PAST_S)
    rig.frozen(live)
    before = generations.read_text()
    pass_by(boot_time_s() + QUIET_S)
    assert generations.read_text() == before
    rig.lease(LONG_S)
    eventually(lambda: len(generations.read_text()) > len(before) + 30, "the tree grows again")


def test_what_somebody_wakes_is_frozen_again(rig: Rig) -> None:
    live, stamps = started(rig)
    rig.lease(PAST_S)
    rig.frozen(live)
    woken_s = boot_time_s()
    os.kill(live.pid, signal.SIGCONT)
    assert_frozen_by(woken_s, stamps)
    rig.lease(LONG_S)
    stamps.wait(after_s=boot_time_s())


def test_several_jobs_are_frozen_together_and_a_new_one_runs_after_the_thaw(rig: Rig) -> None:
    jobs = [started(rig, f"stamps-{number}") for number in range(3)]
    rig.lease(PAST_S)
    for live, _ in jobs:
        rig.frozen(live)
    assert_still(*(stamps for _, stamps in jobs))
    rig.lease(LONG_S)
    for live, stamps in jobs:
        rig.frozen(live, frozen=False)
        stamps.wait(after_s=boot_time_s())
    assert rig.run("exit 3").exit.code == 3


# what goes wrong


def test_a_keeper_that_is_stopped_does_not_keep_its_jobs_running(rig: Rig) -> None:
    _, stamps = started(rig)
    deadline_s = rig.lease(0.3)
    rig.run("exit 0")  # by now the lease was read
    rig.keeper.suspend()
    assert_frozen_by(deadline_s, stamps)


def test_a_node_that_wakes_after_the_deadline_freezes_first(rig: Rig) -> None:
    """All of the keeper stopped, as in a machine that was paused: only the job runs on."""
    _, stamps = started(rig)
    deadline_s = rig.lease(0.5)
    rig.run("exit 0")
    asleep = [rig.keeper, *rig.helpers()]
    for process in asleep:
        process.suspend()
    never = rig.request("touch $SIGNS/ran")
    rig.client.send(never)
    stamps.wait(after_s=deadline_s + 0.1)
    woken_s = boot_time_s()
    for process in asleep:
        process.resume()
    assert_frozen_by(woken_s, stamps)
    assert rig.live(never.allocation).pid == 0
    assert not (rig.jobs / "ran").exists()


@pytest.mark.parametrize("when", ["before the deadline", "while frozen"])
def test_a_fence_that_is_killed_is_replaced(rig: Rig, when: str) -> None:
    live, stamps = started(rig)
    deadline_s = rig.lease(0.3 if when == "before the deadline" else PAST_S)
    if when == "while frozen":
        rig.frozen(live)
        deadline_s = boot_time_s()
    else:
        rig.run("exit 0")
    (fence,) = rig.fences()
    fence.kill()
    eventually(lambda: [one for one in rig.fences() if one.pid != fence.pid] or None, "there is another fence")
    assert_frozen_by(deadline_s, stamps)
    rig.lease(LONG_S)
    rig.frozen(live, frozen=False)
    stamps.wait(after_s=boot_time_s())
    assert rig.run("exit 3").exit.code == 3


def test_frozen_jobs_end_with_their_keeper(rig: Rig) -> None:
    live, _ = started(rig)
    child = rig.sign("child")
    rig.start("(setsid bash -c 'echo $$ > $SIGNS/child; exec sleep 600' $0 &); exec sleep 600")
    orphan = int(child.word())
    (fence,) = rig.fences()
    rig.lease(PAST_S)
    rig.frozen(live)
    rig.kill_keeper()
    eventually(lambda: gone(live.pid) and gone(fence.pid), "the job and the fence are gone")
    rig.connect()
    assert gone(orphan)
    assert rig.run("exit 3").exit.code == 3
