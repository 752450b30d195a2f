"""Two coordinators: one leads, the other takes over, and whoever was paused meanwhile changes nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import redis

from shunter.domain.event import Placed
from shunter.domain.ids import AllocationId, JobId
from shunter.domain.phase import Allocation, NodeShare
from shunter.domain.reason import NotEnoughFree
from shunter.scheduling.usage import Usage
from shunter.store import commands
from shunter.store.commands import Leadership
from tests.e2e.yard import Yard, eventually, yard_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@contextlib.contextmanager
def second_coordinator(yard: Yard) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "shunter.coordinator", "--name", "second"]
    with (yard.home / "logs" / "second.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--home", str(yard.home), "--cluster", yard.name], stdout=log, stderr=log
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def state(yard: Yard) -> dict[bytes, Any]:
    """Return all that the cluster has in Redis, but the clocks that tick by themselves."""
    with redis.Redis.from_url(yard.cluster.redis.url, protocol=2) as client:
        keys = yard.keys
        ticking = {key.encode() for key in (keys.seen, keys.leader, keys.coordinators, keys.usage)}
        found = {name: client.dump(name) for name in client.scan_iter(f"{yard.keys.prefix}*") if name not in ticking}
        found[b"leader"] = client.hmget(yard.keys.leader, ["epoch", "token", "name"])
        return found


def leadership(yard: Yard) -> Leadership:
    with redis.Redis.from_url(yard.cluster.redis.url, protocol=2) as client:
        epoch, token = client.hmget(yard.keys.leader, ["epoch", "token"])
        return Leadership(int(epoch), token.decode())


def leads(yard: Yard, name: str) -> bool:
    return yard.client.cluster().leader == name


def usage(yard: Yard) -> dict[tuple[str, str], float]:
    """Return the GPU-seconds of each (team, user) as the leader last wrote them down."""
    with redis.Redis.from_url(yard.cluster.redis.url, protocol=2) as client:
        written = msgspec.json.decode(client.get(yard.keys.usage) or b"", type=Usage)
        return {(used.team, used.user): used.gpu_s for used in written.used}


def test_the_next_leader_knows_what_was_used_though_the_last_had_not_written_it_down() -> None:
    with yard_of("n1=simulated:2") as yard:
        job = yard.held("work", gpus=2, user="ada", team="lab")
        yard.wait_for_lines("work")
        yard.let_go("work")
        (view,) = yard.ended(job)
        epoch = yard.client.cluster().epoch
        yard.kill("coordinator")
        yard.new_epoch(epoch)
        used = eventually(lambda: usage(yard).get(("lab", "ada")), "it is written down")
        assert view.ran_s
        assert used == pytest.approx(2 * view.ran_s, rel=1e-3)


def test_a_paused_leader_changes_nothing_when_it_wakes() -> None:
    with yard_of("n1=simulated:2", "n2=simulated:2", watched=False) as yard:
        full = [yard.held(f"full-{number}", gpus=2) for number in range(2)]
        for number in range(2):
            yard.wait_for_lines(f"full-{number}")
        old, pid = leadership(yard), yard.pid("coordinator")
        with second_coordinator(yard):
            os.kill(pid, signal.SIGSTOP)
            # It sleeps with this submission in its ear, and will wake believing that it must act on it.
            early = yard.held("early", gpus=2)
            yard.let_go("full-0")
            eventually(lambda: leads(yard, "second"), "the second leads")
            yard.wait_for_lines("early")
            waits = yard.held("waits", gpus=2)
            yard.waiting_for(waits, NotEnoughFree)  # by a decision of the second

            now = leadership(yard)
            assert now.epoch == old.epoch + 1
            assert place_as(yard, old, waits) == ["stale"]
            before = state(yard)
            os.kill(pid, signal.SIGCONT)
            log = yard.home / "logs" / "coordinator.log"
            eventually(lambda: "no longer leading" in log.read_text(), "the first knows")
            assert state(yard) == before

            yard.let_go("full-1", "early", "waits")
            views = yard.ended(*full, early, waits)
            assert [(view.state, view.attempt) for view in views] == [("succeeded", 1)] * 4
            assert leads(yard, "second")
            assert yard.replayed().epochs == [old.epoch, now.epoch]
            yard.audit.check_once(*full, early, waits)
        assert yard.new_epoch(now.epoch) == now.epoch + 1  # the first stands by, and leads again once it must


def place_as(yard: Yard, leader: Leadership, job: int) -> list[commands.Answer]:
    """Try to place *job* as *leader*."""
    (record,) = yard.store.run(commands.records(yard.keys, [job]))
    node = next(view.node for view in yard.client.nodes())
    assert record is not None
    allocation = Allocation(AllocationId("stale.1"), (NodeShare(node.name, node.incarnation, (0, 1)),))
    move = commands.move(JobId(job), record, Placed(1.0, "the paused one", allocation))
    return yard.store.run(commands.place(yard.keys, leader, [move]))


def test_a_leader_that_ends_hands_over_at_once() -> None:
    with yard_of("n1=simulated:2", watched=False) as yard, second_coordinator(yard):
        log = yard.home / "logs" / "second.log"
        eventually(log.exists, "the second runs")
        assert not leads(yard, "second")
        process = yard.cluster.roles["coordinator"].process
        assert process is not None
        process.terminate()
        assert process.wait() == 0
        eventually(lambda: leads(yard, "second"), "the second leads")
        assert yard.ended(yard.submit(["true"]))[0].state == "succeeded"
        assert yard.replayed().epochs == [1, 2]
