"""Redis comes back empty, or with somebody else's data: nobody obeys it, and no running job is touched."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from shunter.cli.main import main
from shunter.dispatch.celery import CeleryDispatcher, Destination
from shunter.domain.event import StopAsked
from shunter.domain.ids import JobId
from shunter.domain.phase import NodeShare, StopCause
from shunter.errors import ForeignStore, Unavailable
from shunter.store import commands
from tests.e2e.audit import Audit
from tests.e2e.yard import Yard, eventually, yard_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

NAMES = ("goes", "fails", "stays", "other")
ROLES = ("node-n1", "node-n2", "coordinator")


def data(yard: Yard) -> list[Path]:
    return sorted((yard.home / "redis").glob("appendonly*"))


def restart_redis(yard: Yard) -> None:
    """Kill it, and wait for the one that the watcher starts."""
    before = yard.cluster.redis.process
    assert before is not None
    before.kill()

    def again() -> bool:
        return yard.cluster.redis.process is not before and yard.store.run(commands.last_job(yard.keys)) >= 0

    eventually(again, "a new Redis")


def take_data_away(yard: Yard) -> None:
    """Move Redis's files out of its sight; what it still writes, it writes to the moved ones."""
    (yard.home / "kept").mkdir()
    for path in data(yard):
        path.rename(yard.home / "kept" / path.name)


def bring_data_back(yard: Yard) -> None:
    for path in data(yard):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in sorted((yard.home / "kept").iterdir()):
        path.rename(yard.home / "redis" / path.name)
    (yard.home / "kept").rmdir()


def groups(yard: Yard, *jobs: int) -> set[int]:
    """Return the process groups of *jobs*: they are the same for as long as nobody has started one again."""
    found = set()
    for process in (process for job in jobs for process in yard.processes(job)):
        with contextlib.suppress(ProcessLookupError):
            found.add(os.getpgid(process.pid))
    return found


def share_of(yard: Yard, job: int) -> NodeShare:
    (share,) = yard.replayed().phases[job].allocation.shares  # type: ignore[union-attr]  # it runs
    return share


def said(yard: Yard, role: str, what: str) -> int:
    return (yard.home / "logs" / f"{role}.log").read_text().count(what)


def refuses(yard: Yard, role: str, times: int = 1) -> None:
    eventually(lambda: said(yard, role, "not the data set of cluster") >= times, f"{role} refuses, {times} times")


def stored(yard: Yard) -> dict[bytes, Any]:
    with redis.Redis.from_url(yard.cluster.redis.url, protocol=2) as client:
        return {name: client.dump(name) for name in client.scan_iter(f"{yard.keys.prefix}*")}


def healthy(yard: Yard) -> int:
    """Return what the gateway says of its health, 0 if there is none."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{yard.cluster.url}/v1/health").status_code
    return 0


def check_gateway_refuses(yard: Yard) -> None:
    headers = {"authorization": f"Bearer {(yard.home / 'token').read_text().strip()}"}
    with httpx.Client(base_url=yard.cluster.url, headers=headers, timeout=10.0) as http:
        for answer in (
            http.post("/v1/jobs", json={"command": ["true"]}),
            http.get("/v1/cluster"),
            http.get("/v1/jobs"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "foreign_store"), answer.text
            assert "expected identity" in answer.json()["message"]
            assert "shunter rejoin" in answer.json()["fix"]
        assert http.get("/v1/health").status_code == 503


def stop_in_the_name_of_another(yard: Yard, job: int, share: NodeShare, hint: bytes) -> None:
    """Be another cluster with the same names and numbers, whose job of this number is to end."""
    node = share.node
    with redis.Redis.from_url(yard.cluster.redis.url) as client:
        client.hset(yard.keys.meta, "identity", "another")
        client.hset(yard.keys.incarnations, node, f"{share.incarnation} elsewhere")
    dispatcher = CeleryDispatcher(yard.cluster.redis.url, yard.keys)
    dispatcher.send({Destination(node, share.incarnation): [(JobId(job), hint)]}, "another")
    eventually(lambda: said(yard, f"node-{node}", "hints of another data set dropped") > 0, "the hint is dropped")


def test_redis_comes_back_empty_and_jobs_run_on_and_nobody_obeys_it_until_the_data_is_back() -> None:
    with yard_of("n1=simulated:4", "n2=simulated:4") as yard:
        goes, fails, stays, other = ids = [yard.held(name, code=number, gpus=2) for number, name in enumerate(NAMES)]
        for name in NAMES:
            yard.wait_for_lines(name)
        waits = yard.submit(["true"], gpus=4)
        share = share_of(yard, other)
        restarted = "n2" if share.node == "n1" else "n1"
        record = yard.store.run(commands.records(yard.keys, [other]))[0]
        assert record is not None
        hint = commands.move(JobId(other), record, StopAsked(1.0, "ada", StopCause.CANCELLED)).after.value
        running, incarnation = groups(yard, stays, other), yard.incarnation(restarted)
        assert len(running) == 2

        take_data_away(yard)
        restart_redis(yard)
        for role in ROLES:
            refuses(yard, role)
        check_gateway_refuses(yard)
        assert stored(yard) == {}
        yard.kill(f"node-{restarted}", "coordinator", "gateway")  # who starts now has not met it before
        for role in (f"node-{restarted}", "coordinator"):
            refuses(yard, role, 2)
        eventually(lambda: healthy(yard) == 503, "a gateway")
        check_gateway_refuses(yard)
        assert stored(yard) == {}
        with pytest.raises(Unavailable, match=r"expected identity [0-9a-f]{16}, found none: it is empty"):
            yard.client.cluster()

        yard.let_go("goes", "fails")
        for name in ("goes", "fails"):
            assert yard.wait_for_lines(name, 2) == ["start 1", "end 1"]
        stop_in_the_name_of_another(yard, other, share, hint)
        check_gateway_refuses(yard)
        assert groups(yard, stays, other) == running
        assert [yard.lines(name) for name in ("stays", "other")] == [["start 1"]] * 2

        bring_data_back(yard)
        restart_redis(yard)
        assert [view.exit_status for view in yard.ended(goes, fails)] == [0, 1]
        yard.joined_anew(restarted, incarnation)
        assert groups(yard, stays, other) == running
        yard.let_go("stays", "other")
        assert [view.exit_status for view in yard.ended(stays, other, waits)] == [2, 3, 0]
        assert [yard.lines(name) for name in NAMES] == [["start 1", "end 1"]] * 4
        yard.replayed().check_once(*ids, waits)


def test_up_refuses_a_home_whose_redis_has_lost_its_files_until_they_are_back_or_given_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with yard_of("n1=simulated:2") as yard:
        job = yard.held("through", code=5)
        yard.wait_for_lines("through")
        running = groups(yard, job)
        yard.down()
        take_data_away(yard)
        with pytest.raises(ForeignStore, match="found none: it is empty"):
            yard.up()
        assert groups(yard, job) == running

        bring_data_back(yard)
        yard.up()
        assert yard.client.job(job).state == "running"
        assert groups(yard, job) == running
        lasts = yard.held("lasts")
        yard.wait_for_lines("lasts")
        yard.let_go("through")
        assert yard.ended(job)[0].exit_status == 5
        yard.replayed().check_once(job)

        yard.down()
        take_data_away(yard)
        with pytest.raises(ForeignStore):
            yard.up()
        assert yard.processes(lasts)
        assert main(["rejoin", "--home", str(yard.home), "--yes"]) == 0
        assert "cluster-identity" in capsys.readouterr().out
        yard.audit, yard._checked = Audit(), 0
        yard.up()
        eventually(lambda: not yard.processes(lasts), "what the new data set does not know is ended")
        assert yard.lines("lasts") == ["start 1"]
        assert yard.ended(yard.submit(["true"]))[0].id == 1
        assert yard.client.cluster().identity


def test_data_that_is_given_up_while_all_runs_is_forgotten_by_running_nodes_too() -> None:
    with yard_of("n1=simulated:2", "n2=simulated:2") as yard:
        save = 'echo old >"$SHUNTER_CHECKPOINT_DIR/model"; echo old; '
        job = yard.submit(f'{save} echo on >>"$FILES/old"; exec sleep 600', gpus=2, env={"FILES": str(yard.files)})
        yard.wait_for_lines("old")
        running = groups(yard, job)
        nodes = {name: yard.pid(f"node-{name}") for name in ("n1", "n2")}
        take_data_away(yard)
        restart_redis(yard)
        for role in ROLES:
            refuses(yard, role)
        assert groups(yard, job) == running, "nobody has decided yet"

        assert main(["rejoin", "--home", str(yard.home), "--yes"]) == 0
        yard.audit, yard._checked = Audit(), 0
        eventually(lambda: len(yard.client.nodes()) == 2, "both nodes join the new data set")
        eventually(lambda: not yard.processes(job), "what the new data set does not know is ended")
        assert {name: yard.pid(f"node-{name}") for name in nodes} == nodes, "no worker had to be started"
        again = yard.submit('ls "$SHUNTER_CHECKPOINT_DIR"; echo new', gpus=2)
        assert again == job == 1
        assert yard.ended(again)[0].exit_status == 0
        assert "".join(yard.client.logs(again)) == "new\n"
