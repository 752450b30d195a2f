"""What `shunter deploy redis --start` runs, on each version of Redis: it is as it should be, and one takes over."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shunter.domain.ids import JobId
from shunter.domain.job import Job, Launch, Request, Submission
from shunter.domain.lease import NORMAL
from shunter.errors import Unavailable
from shunter.local import redis_servers
from shunter.local.redis_servers import RedisServers
from shunter.store import commands
from shunter.store.checks import problems
from shunter.store.deploy import plan
from shunter.store.keys import Keys
from shunter.store.redis import Store
from shunter.store.routes import with_cluster
from tests.contract.servers import find_binary, free_ports, why_missing


@pytest.fixture(params=["6.2", "7.0"])
def binary(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = find_binary(request.param)
    if found is None:
        pytest.skip(why_missing(request.param))
    monkeypatch.setattr(redis_servers, "find_server", lambda: found)
    return found


@pytest.fixture(params=["sentinel", "cluster"])
def servers(request: pytest.FixtureRequest, binary: Path, tmp_path: Path) -> Iterator[RedisServers]:
    made = plan(request.param, ["127.0.0.1"], port=0, ports=free_ports(6), password="secret", down_after_ms=1_000)
    found = RedisServers(made, tmp_path, "secret")
    found.write()
    try:
        found.start_all(tied=True)
        yield found
    finally:
        found.stop()


def test_what_a_server_refuses_within_scripts_is_understood(servers: RedisServers) -> None:
    keys = Keys("main")
    job = Submission(Job(JobId(0), "x", "ada", Request(1), submitted_s=1.0), Launch(["true"], "/"))
    with contextlib.closing(Store(with_cluster(servers.plan.url, "main"))) as store:
        _, port = store.finder.master()
        master = next(one.name for one in servers.plan.servers if one.port == port)
        servers.do(master, "CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(Unavailable, match="out of memory"):
            store.run(commands.submit(keys, [job], at_s=0.0, by="ada"))
        first = int(store.run(commands.next_incarnation(keys)))
        servers.do(master, "CONFIG", "SET", "maxmemory", 0)
        servers.do(master, "CONFIG", "SET", "min-replicas-to-write", 5)
        with pytest.raises(Unavailable, match="NOREPLICAS"):
            store.run(commands.next_incarnation(keys))
        servers.do(master, "CONFIG", "SET", "min-replicas-to-write", 1)
        assert int(store.run(commands.next_incarnation(keys))) == first + 1


def test_they_are_set_up_well_and_another_serves_when_the_master_is_killed(servers: RedisServers) -> None:
    with contextlib.closing(Store(with_cluster(servers.plan.url, "main"))) as store:
        assert [str(one) for one in problems(store.examine(), NORMAL)] == []
        _, port = store.finder.master()
        servers.kill(next(one.name for one in servers.plan.servers if one.port == port))
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(Unavailable, OSError):
                if store.info("replication")["role"] == "master" and store.finder.master()[1] != port:
                    return
            assert time.monotonic() < deadline, "nobody took over"
            time.sleep(0.05)
