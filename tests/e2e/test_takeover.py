"""Redis servers die and take over from one another under a whole cluster: nothing is lost, doubled or frozen."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from shunter.cli.main import main
from shunter.domain.report import JobView
from shunter.errors import SetupError, Unavailable
from shunter.local.redis_servers import RedisServers
from shunter.sdk.spec import make_spec
from shunter.store import leases
from shunter.store.commands import JUMP
from shunter.store.deploy import plan
from shunter.store.redis import Store
from shunter.store.startup import check_settings
from tests.contract.servers import free_ports
from tests.e2e.test_leases import let_go, now_s, stamping, stamps, wait_for_stamp
from tests.e2e.yard import Yard, eventually

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server 7 is needed"),
]

DOWN_AFTER_MS = 1_000
"""A third of what is used in earnest: the same happens, sooner."""

LATER_EPOCH = 1_000
NOBODY = "0" * 40

ONCE = 'echo "$SHUNTER_JOB_ID $SHUNTER_ATTEMPT" >>"$OUT"'


class World(NamedTuple):
    yard: Yard
    servers: RedisServers

    def master(self) -> str:
        """The name of the server that serves now."""
        with contextlib.closing(Store(self.yard.store.url)) as store:
            _, port = store.finder.master()
        return next(one.name for one in self.servers.plan.servers if one.port == port)

    def replicas(self) -> list[str]:
        """The data servers that copy the one that serves."""
        master = self.servers.plan.named(self.master())
        found = []
        for name in self.servers.living():
            role = self.servers.do(name, "ROLE")
            if role[0] == b"slave" and role[2] == master.port:
                found.append(name)
        return found


@pytest.fixture(scope="module", params=["sentinel", "cluster"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    ports = free_ports(6)
    made = plan(request.param, ["127.0.0.1"], port=0, ports=ports, password="secret", down_after_ms=DOWN_AFTER_MS)
    servers = RedisServers(made, tmp_path_factory.mktemp(request.param), "secret")
    servers.write()
    try:
        servers.start_all(tied=True)
        yard = Yard(["n1=simulated:8", "n2=simulated:8"], watched=False, redis=made.url, coordinators=2)
        try:
            # Not `yard_of`: so many jobs outgrow the event stream, which cannot be replayed then.
            yield World(yard.up(), servers)
        finally:
            yard.close()
    finally:
        servers.stop()


class Submitter(threading.Thread):
    """Submits job after job, each until it is answered, and notes what it was told."""

    def __init__(self, yard: Yard, out: Path) -> None:
        super().__init__(name="submitter", daemon=True)
        self._yard, self._out = yard, out
        self._stop_asked = threading.Event()
        self.accepted: list[JobView] = []
        self.longest_s = 0.0

    def run(self) -> None:
        with self._yard.cluster.client() as client:
            number = 0
            while not self._stop_asked.is_set():
                number += 1
                spec, began_s = make_spec({"command": ONCE, "gpus": 0, "env": {"OUT": str(self._out)}}), now_s()
                while True:
                    try:
                        self.accepted.append(client.submit(spec, idempotency_key=f"{self._out.name}-{number}"))
                        break
                    except Unavailable:
                        time.sleep(0.02)
                self.longest_s = max(self.longest_s, now_s() - began_s)

    def stop(self) -> list[JobView]:
        self._stop_asked.set()
        self.join(60)
        assert not self.is_alive()
        return self.accepted


@contextlib.contextmanager
def submitting(world: World, name: str) -> Iterator[Submitter]:
    submitter = Submitter(world.yard, world.yard.files / name)
    submitter.start()
    try:
        eventually(lambda: len(submitter.accepted) > 10, "submissions are on their way")
        yield submitter
    finally:
        submitter.stop()


def another_serves(world: World, dead: str) -> None:
    eventually(lambda: world.master() != dead, "another serves", within_s=30.0)


def goes_on(submitter: Submitter) -> None:
    accepted = len(submitter.accepted)
    eventually(lambda: len(submitter.accepted) > accepted + 10, "submissions go on", within_s=30.0)


def check_each_ran_once(world: World, submitter: Submitter) -> None:
    """What was accepted is there, ended well, and by its own word ran once."""
    views = world.yard.ended(*(view.id for view in submitter.accepted), within_s=90.0)
    assert {view.state for view in views} == {"succeeded"}
    ran = [line.split()[0] for line in submitter._out.read_text().splitlines()]
    assert sorted(map(int, ran)) == sorted({view.id for view in views}), "none is lost, none ran twice"
    assert len(ran) == len(submitter.accepted)


def check_unharmed(world: World, name: str, job: int) -> None:
    """The job that ran all the time was neither frozen nor started again."""
    let_go(world.yard, name)
    (view,) = world.yard.ended(job)
    assert (view.state, view.retries, view.attempt) == ("succeeded", 0, 1)
    assert view.outcome is not None
    assert view.outcome.frozen_s == 0
    found = stamps(world.yard, name, 1)
    assert max((later - earlier for earlier, later in pairwise(found)), default=0.0) < 5.0


def test_when_the_master_is_killed_another_takes_over_and_nothing_is_lost_doubled_or_frozen(world: World) -> None:
    yard, servers = world
    running = stamping(yard, "through-kill")
    wait_for_stamp(yard, "through-kill", 1)
    with submitting(world, "killed") as submitter:
        dies = world.master()
        servers.kill(dies)
        killed_s = now_s()
        another_serves(world, dies)
        goes_on(submitter)
        servers.start(dies, tied=True)
        servers.settle()
        confirmed_from = len(submitter.accepted)
        eventually(lambda: any(one.confirmed for one in submitter.accepted[confirmed_from:]), "the old one confirms")
    check_each_ran_once(world, submitter)
    ids = [view.id for view in submitter.accepted]
    assert ids[-1] > ids[0] + JUMP, "no number that the dead master may have given out is given out again"
    wait_for_stamp(yard, "through-kill", 1, after_s=killed_s)
    check_unharmed(world, "through-kill", running)


def test_an_election_that_nobody_wins_freezes_nothing(world: World) -> None:
    yard, servers = world
    if servers.plan.mode == "cluster":
        pytest.skip("a Redis Cluster repeats an election after four node time-outs, whatever it is told")
    servers.settle()
    running = stamping(yard, "through-election")
    wait_for_stamp(yard, "through-election", 1)
    dies = world.master()
    host, port = servers.plan.named(dies).host, servers.plan.named(dies).port
    for sentinel in [one.name for one in servers.plan.servers if one.kind == "sentinel"]:
        # As if each had given its vote to one that then died.
        told = servers.do(sentinel, "SENTINEL", "IS-MASTER-DOWN-BY-ADDR", host, port, LATER_EPOCH, NOBODY)
        assert told[1:] == [NOBODY.encode(), LATER_EPOCH]
    servers.kill(dies)
    try:
        another_serves(world, dies)
    finally:
        servers.start(dies, tied=True)
        servers.settle()
    check_unharmed(world, "through-election", running)


def test_all_servers_are_restarted_one_by_one_under_load(world: World) -> None:
    yard, servers = world
    running = stamping(yard, "through-restarts")
    wait_for_stamp(yard, "through-restarts", 1)
    with submitting(world, "restarted") as submitter:
        for server in [one for one in servers.plan.servers if one.kind == "data"]:
            served = world.master() == server.name
            servers.stop(server.name)
            if served:
                another_serves(world, server.name)
            goes_on(submitter)
            servers.start(server.name, tied=True)
            servers.settle()
    check_each_ran_once(world, submitter)
    check_unharmed(world, "through-restarts", running)


def test_the_check_of_settings_says_what_would_lose_jobs(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    url = world.yard.store.url
    assert main(["deploy", "check", "--redis", url]) == 0
    assert capsys.readouterr().out == "all as it should be\n"
    master = world.master()
    world.servers.do(master, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        assert main(["deploy", "check", "--redis", url]) == 3
        assert "refused  redis: maxmemory-policy: expected noeviction, found allkeys-lru" in capsys.readouterr().out
        with pytest.raises(SetupError, match="maxmemory-policy"), contextlib.closing(Store(url)) as store:
            check_settings(store)
    finally:
        world.servers.do(master, "CONFIG", "SET", "maxmemory-policy", "noeviction")


def test_nothing_starts_before_a_replica_has_its_claim(world: World) -> None:
    """With replicas that stand still: a master in this state may be one that others are just replacing."""
    yard, servers = world
    servers.settle()
    frozen = eventually(world.replicas, "there are replicas")
    for name in frozen:
        servers.signal(name, signal.SIGSTOP)
    try:
        job = stamping(yard, "claimed")
        eventually(lambda: yard.client.job(job).state != "queued", "it is placed")
        logs = [yard.home / "logs" / f"node-n{number}.log" for number in (1, 2)]
        eventually(lambda: any("no replica has it" in log.read_text() for log in logs), "its node waits for a replica")
        assert stamps(yard, "claimed", 1) == []
    finally:
        for name in frozen:
            servers.signal(name, signal.SIGCONT)
    wait_for_stamp(yard, "claimed", 1)
    check_unharmed(world, "claimed", job)
    servers.settle()


def test_where_no_replica_is_left_most_must_name_the_master_before_anything_starts(world: World) -> None:
    yard, servers = world
    if servers.plan.mode == "sentinel":
        pytest.skip("with Sentinel a master without replicas accepts nothing: min-replicas-to-write")
    servers.settle()
    (replica,) = eventually(world.replicas, "there is a replica")
    servers.stop(replica)
    try:
        assert yard.ended(yard.submit("true", gpus=0))[0].state == "succeeded"
    finally:
        servers.start(replica, tied=True)
        servers.settle()


def renewals(yard: Yard) -> dict[str, int]:
    marks = yard.store.run(leases.watch(yard.keys)).marks
    return {str(node): mark.number for node, mark in marks.items()}


def test_while_memory_is_full_submissions_are_refused_and_what_runs_goes_on(world: World) -> None:
    yard, servers = world
    servers.settle()
    running = stamping(yard, "full")
    wait_for_stamp(yard, "full", 1)
    ends, stays = yard.held("ends-when-full"), yard.held("stays-when-full")
    yard.wait_for_lines("ends-when-full")
    yard.wait_for_lines("stays-when-full")
    data = servers.living()
    for name in data:
        servers.do(name, "CONFIG", "SET", "maxmemory", 1)
    try:
        token = (yard.home / "token").read_text().strip()
        with httpx.Client(base_url=yard.cluster.url, headers={"authorization": f"Bearer {token}"}) as http:
            refused = http.post("/v1/jobs", json={"command": ["true"], "cwd": "/"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["message"] == "redis: out of memory"
        before = renewals(yard)
        eventually(lambda: all(now > before[node] + 2 for node, now in renewals(yard).items()), "nodes renew")
        yard.let_go("ends-when-full")
        assert yard.ended(ends)[0].state == "succeeded"
        yard.client.cancel(stays)
        assert yard.ended(stays)[0].state == "cancelled"
    finally:
        for name in data:
            servers.do(name, "CONFIG", "SET", "maxmemory", 0)
    check_unharmed(world, "full", running)


def pids(yard: Yard) -> dict[str, int]:
    return {name: role.process.pid for name, role in yard.cluster.roles.items() if role.process is not None}


def drop_clients(servers: RedisServers, name: str, password: str) -> None:
    """End the connections of all clients: those that have logged in would not be asked again."""
    with contextlib.closing(servers.at(name, password=password)) as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal")


def test_a_login_that_is_refused_for_a_while_ends_no_role_and_no_job(world: World) -> None:
    yard, servers = world
    servers.settle()
    running = stamping(yard, "refused")
    wait_for_stamp(yard, "refused", 1)
    roles = pids(yard)
    data = servers.living()
    for name in data:
        servers.do(name, "ACL", "SETUSER", "default", ">other", "<secret")
        drop_clients(servers, name, "other")
    logs = [yard.home / "logs" / f"{name}.log" for name in roles]
    try:
        with pytest.raises(Unavailable, match="refused the login"):
            yard.client.submit(command="true", gpus=0)
        eventually(lambda: all("refused the login" in log.read_text() for log in logs), "every role says so")
    finally:
        for name in data:
            with contextlib.closing(servers.at(name, password="other")) as client:
                client.execute_command("ACL", "SETUSER", "default", ">secret", "<other")
    servers.settle()
    (view,) = yard.ended(eventually(lambda: yard.submit("true", gpus=1), "submissions are taken again"))
    assert view.state == "succeeded"
    assert pids(yard) == roles
    check_unharmed(world, "refused", running)


def test_a_role_that_starts_with_a_wrong_url_ends_at_once_and_says_what_is_wrong(world: World) -> None:
    url, port = world.yard.store.url, world.servers.plan.servers[0].port
    of_other_kind = {
        "sentinel": (f"rediscluster://:secret@127.0.0.1:{port}", "no Redis Cluster"),
        "cluster": (f"redis://:secret@127.0.0.1:{port}/0", "rediscluster://HOST:PORT"),
    }
    for name in world.servers.living():
        world.servers.do(name, "ACL", "SETUSER", "weak", "on", ">guess", "~*", "+info", "+config|get", "+cluster|slots")
    node = ["shunter.agent", "--name", "n9", "--gpus", "simulated:1"]
    for argv, wrong, says in (
        (["shunter.coordinator"], url.replace("secret", "guess"), "refused the login"),
        (["shunter.coordinator"], *of_other_kind[world.servers.plan.mode]),
        (node, url.replace(":secret", "weak:guess"), "refused the login: this user has no permissions to run"),
    ):
        env = {**os.environ, "SHUNTER_HOME": str(world.yard.home / "other"), "SHUNTER_REDIS": wrong}
        whole = [sys.executable, "-m", *argv, "--cluster", world.yard.name]
        ended = subprocess.run(whole, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert (ended.returncode, "Traceback" in ended.stderr) == (3, False), ended.stderr
        assert says in ended.stderr
        assert "guess" not in ended.stderr


def test_a_submission_says_when_no_replica_has_it(world: World) -> None:
    yard, servers = world
    servers.settle()
    frozen = eventually(world.replicas, "there are replicas")
    waits = [yard.client.submit(command="sleep 600", gpus=8, cwd="/") for _ in range(4)]
    assert all(view.confirmed for view in waits)
    assert yard.client.cancel(*(view.id for view in waits[:3])).confirmed
    for name in frozen:
        servers.signal(name, signal.SIGSTOP)
    try:
        assert not yard.client.submit(command="true", gpus=0).confirmed
        assert not yard.client.cancel(waits[3].id).confirmed
    finally:
        for name in frozen:
            servers.signal(name, signal.SIGCONT)
    eventually(lambda: yard.client.submit(command="true", gpus=0).confirmed, "they are back")
    servers.settle()
