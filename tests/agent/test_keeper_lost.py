"""The keeper's own end: its jobs end with it, the next keeper says so once, and an idle one goes by itself."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from shunter.agent.keeper import client
from shunter.agent.keeper.client import Gone
from shunter.agent.keeper.protocol import Ended, Live
from shunter.domain.outcome import FailureClass
from shunter.errors import SetupError
from tests.agent.conftest import BOTH
from tests.agent.rig import PATIENCE_S, Rig, eventually, gone

pytestmark = BOTH

LOST = (None, None, FailureClass.KEEPER_LOST, "the node's keeper died, and with it the job")


def verdict(ended: object) -> tuple[int | None, int | None, FailureClass | None, str]:
    assert isinstance(ended, Ended)
    return ended.exit.code, ended.exit.signal, ended.exit.failure, ended.exit.message


def test_when_the_keeper_is_killed_its_jobs_die_at_once(rig: Rig) -> None:
    lives = [rig.start("sleep", "600") for _ in range(3)]
    os.kill(rig.ready.pid, signal.SIGKILL)
    eventually(lambda: all(gone(live.pid) for live in lives), "the jobs are dead, though nobody started a new keeper")


def test_a_worker_is_told_that_its_keeper_is_gone(rig: Rig) -> None:
    os.kill(rig.ready.pid, signal.SIGKILL)
    assert isinstance(rig.client.reports.get(timeout=PATIENCE_S), Gone)


def test_the_next_keeper_reports_a_lost_job_until_it_is_acknowledged_and_then_no_more(rig: Rig) -> None:
    live = rig.start("sleep 600", job_id=7, attempt=2, rank=1)
    rig.kill_keeper()
    (lost,) = rig.connect()
    assert verdict(lost) == LOST
    assert isinstance(lost, Ended)
    assert (lost.allocation, lost.job_id, lost.attempt, lost.rank) == (live.allocation, 7, 2, 1)
    rig.kill_keeper()
    assert rig.connect() == [lost]
    rig.ack(lost)
    rig.ack(rig.run("exit 0"))
    rig.run("exit 0")
    rig.kill_keeper()
    assert lost not in rig.connect()


def test_the_next_keeper_leaves_nothing_of_a_lost_job(rig: Rig, containment: str) -> None:
    """The main process dies with the keeper; what it cut loose is ended by the guardian, else by the next keeper."""
    started = rig.sign("started")
    live = rig.start("(setsid bash -c 'echo $$ > $SIGNS/started; exec sleep 600' $0 &) ; exec sleep 600")
    child = int(started.word())
    rig.kill_keeper()
    if containment == "cgroup":
        eventually(lambda: gone(child), "the guardian has ended the child, though no keeper came")
    else:
        assert not gone(child)
    (lost,) = rig.connect()
    assert verdict(lost) == LOST
    assert gone(live.pid)
    assert gone(child)
    rig.assert_nothing_left()


def test_a_child_without_environment_of_a_lost_job_is_known_by_its_session(rig: Rig) -> None:
    started = rig.sign("started")
    rig.start("env -i bash -c 'echo $$ > $0; exec sleep 600' $SIGNS/started & exec sleep 600")
    child = int(started.word())
    rig.kill_keeper()
    (lost,) = rig.connect()
    assert verdict(lost) == LOST
    assert gone(child)


def test_the_true_end_of_a_job_outlives_the_keeper_that_saw_it(rig: Rig) -> None:
    ended = [rig.run("exit 3"), rig.run("kill -SEGV $$")]
    rig.kill_keeper()
    assert rig.connect() == ended
    assert [(one.exit.code, one.exit.signal) for one in ended] == [(3, None), (None, signal.SIGSEGV)]


def test_what_was_acknowledged_stays_forgotten(rig: Rig) -> None:
    rig.ack(rig.run("exit 3"))
    other = rig.run("exit 4")
    rig.kill_keeper()
    assert rig.connect() == [other]


def test_after_a_keeper_was_killed_its_gpus_can_be_used_again(rig: Rig) -> None:
    rig.start("sleep 600", gpus=(0,))
    rig.kill_keeper()
    rig.connect()
    assert rig.run("exit 3", gpus=(0,)).exit.code == 3


def test_a_client_that_lost_its_keeper_starts_another(rig: Rig) -> None:
    before = rig.ready.pid
    rig.kill_keeper()
    rig.connect()
    assert rig.ready.pid != before
    assert rig.run("exit 3").exit.code == 3


def test_a_keeper_that_does_not_answer_is_an_error_that_says_where_to_look(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "START_TIMEOUT_S", 0.2)
    rig.keeper.suspend()
    with pytest.raises(SetupError, match=r"keeper: does not answer; see .*/keeper\.log"):
        client.KeeperClient(rig.folder, "n1").connect()
    rig.keeper.resume()


def test_a_keeper_that_does_not_start_is_an_error_that_says_where_to_look(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(client, "START_TIMEOUT_S", 1.0)
    (tmp_path / "other" / "keeper.journal").mkdir(parents=True)
    hopeless = client.KeeperClient(tmp_path / "other", "n1")
    with pytest.raises(SetupError, match=r"keeper: did not start; see .*/keeper\.log"):
        hopeless.connect()
    assert "keeper.journal" in (tmp_path / "other" / "keeper.log").read_text()
    if hopeless._child is not None:
        hopeless._child.wait()


def test_no_cgroup_is_left_of_a_keeper_that_was_killed(rig: Rig) -> None:
    rig.start("(setsid sleep 600 &); sleep 600")
    base = Path(rig.ready.cgroup)
    rig.kill_keeper()
    rig.connect()
    if rig.ready.cgroup:
        eventually(lambda: not base.exists(), "the old keeper's cgroup is gone")


# lingering


def idle_keeper_ends(rig: Rig) -> None:
    eventually(lambda: gone(rig.ready.pid), "the idle keeper has ended")
    assert not (rig.folder / "keeper.sock").exists()
    assert not rig.ready.cgroup or not Path(rig.ready.cgroup).exists()


def test_a_keeper_with_nothing_to_keep_and_no_worker_ends_by_itself(rig: Rig) -> None:
    rig.disconnect()
    idle_keeper_ends(rig)


def test_what_was_not_acknowledged_is_kept_for_the_next_keeper(rig: Rig) -> None:
    ended = rig.run("exit 3")
    rig.disconnect()
    idle_keeper_ends(rig)
    assert rig.connect() == [ended]


def test_a_keeper_with_a_job_stays_until_the_job_has_ended(rig: Rig) -> None:
    live = rig.start("sleep 2; exit 3")
    rig.disconnect()
    eventually(lambda: gone(live.pid), "the job has ended")
    assert not gone(rig.ready.pid)
    idle_keeper_ends(rig)
    (ended,) = rig.connect()
    assert verdict(ended) == (3, None, None, "")


def test_a_keeper_with_a_worker_stays(rig: Rig) -> None:
    assert rig.run("sleep 1.5; exit 3").exit.code == 3
    before = rig.ready.pid
    assert isinstance(rig.start("sleep 600"), Live)
    rig.connect()
    assert rig.ready.pid == before


def test_an_interrupt_from_the_workers_terminal_is_not_for_the_keeper(rig: Rig) -> None:
    live = rig.start("sleep 600")
    for number in (signal.SIGINT, signal.SIGHUP):
        rig.keeper.send_signal(number)
    assert rig.run("exit 3").exit.code == 3
    assert not gone(live.pid)
