"""`up` again on the same home: what ran runs on, and what ended meanwhile is told as it was."""

from __future__ import annotations

import fcntl
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from shunter.errors import Conflict
from shunter.local.cluster import LocalCluster, NodePlan
from tests.e2e.yard import ENOUGH_S, Yard, eventually, psutil_wait, yard_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_jobs_run_on_while_the_cluster_is_down_and_the_next_start_finds_them() -> None:
    with yard_of("n1=simulated:2", "n2=simulated:2") as yard:
        names = ["goes", "fails", "stays", "other"]
        goes, fails, stays, other = (yard.held(name, code=code) for name, code in zip(names, (0, 7, 8, 9), strict=True))
        for name in names:
            yard.wait_for_lines(name)
        waits = yard.submit("exit 3", gpus=2)
        keeper, incarnations = yard.keeper("n2"), {yard.incarnation(node) for node in ("n1", "n2")}
        running = {process.pid for process in yard.processes()}
        epoch, last = yard.client.cluster().epoch, list(yard.client.events())[-1].id
        yard.down()
        assert not (yard.home / "endpoint.json").exists()
        yard.let_go("goes", "fails")
        for name in ("goes", "fails"):
            assert yard.wait_for_lines(name, 2) == ["start 1", "end 1"]
        eventually(lambda: not yard.processes(goes) and not yard.processes(fails), "both are over")

        yard.up()
        assert incarnations.isdisjoint({yard.incarnation(node) for node in ("n1", "n2")})  # it waited for the new ones
        assert yard.keeper("n2") == keeper
        assert {process.pid for process in yard.processes()} & running
        views = yard.ended(goes, fails)
        assert [view.exit_status for view in views] == [0, 7]
        assert yard.ended(waits)[0].exit_status == 3  # it was queued all the time
        assert [yard.client.job(job).state for job in (stays, other)] == ["running", "running"]
        yard.let_go("stays", "other")
        assert [view.exit_status for view in yard.ended(stays, other)] == [8, 9]
        yard.replayed().check_once(goes, fails, stays, other, waits)
        assert yard.audit.epochs[-1] > epoch
        assert last in {event.id for event in yard.client.events()}  # the stream is the old one


def test_a_start_is_over_when_the_nodes_of_this_start_have_joined() -> None:
    # The pool outlives the yard: what is started by a thread ends with it.
    with ThreadPoolExecutor(1) as pool, yard_of("n1=simulated:2", watched=False) as yard:
        before = yard.incarnation("n1")
        yard.down()
        yard.cluster.join_keepers()
        with (yard.home / "nodes" / "n1" / "keeper.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # so the node's new keeper cannot start, and the node cannot join
            log = yard.home / "logs" / "coordinator.log"
            led = log.read_text().count('"leading"')
            started = pool.submit(yard.up)
            eventually(lambda: log.read_text().count('"leading"') > led, "somebody leads")
            with pytest.raises(TimeoutError):
                started.result(1.0)  # Redis still names the node of the last start, which was seen a moment ago
            fcntl.flock(lock, fcntl.LOCK_UN)
            started.result(ENOUGH_S)
        assert yard.incarnation("n1") > before


def test_a_keeper_with_nothing_to_keep_ends_after_its_worker() -> None:
    with yard_of("n1=simulated:2", watched=False) as yard:
        yard.ended(yard.submit(["true"]))
        keeper = yard.keeper("n1")
        yard.down()
        yard.cluster.join_keepers()
        psutil_wait(keeper)
        yard.up()
        assert yard.keeper("n1") != keeper


def test_a_second_cluster_on_the_same_home_is_refused_and_harms_nothing(yard: Yard) -> None:
    url = json.loads((yard.home / "endpoint.json").read_text())["url"]
    second = LocalCluster(yard.home, nodes=[NodePlan("n9", "simulated:1")], cluster=yard.name)
    with pytest.raises(Conflict, match="already running") as refused:
        second.start()
    assert url in refused.value.message
    assert json.loads((yard.home / "endpoint.json").read_text())["url"] == url
    assert yard.ended(yard.submit(["true"]))[0].state == "succeeded"
    assert [view.node.name for view in yard.client.nodes()] == ["n1", "n2"]
