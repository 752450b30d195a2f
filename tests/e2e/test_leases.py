"""Nodes that are gone, or stand still: their jobs run elsewhere, and never twice at once.

That is judged by what the jobs themselves write: each attempt stamps the boot-time clock into a file of its own.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise

import psutil
import pytest

from shunter.domain.lease import FAST
from tests.e2e.yard import Yard, eventually, yard_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

STAMPING = """
import os, sys, time
file = os.open(f"{os.environ['STAMPS']}.{os.environ['SHUNTER_ATTEMPT']}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
while not os.path.exists(os.environ["STAMPS"] + ".go"):
    os.write(file, b"%.4f\\n" % time.clock_gettime(time.CLOCK_BOOTTIME))
    time.sleep(0.01)
"""
RENEWALS = 3 * FAST.renew_s
"""For a renewal and two checks."""


@pytest.fixture
def yard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    monkeypatch.setenv("SHUNTER_LEASE", "fast")
    with yard_of("n1=simulated:4", "n2=simulated:4", watched=False) as yard:
        yield yard


def stamping(yard: Yard, name: str, **fields: object) -> int:
    return yard.submit(["python3", "-c", STAMPING], name=name, env={"STAMPS": str(yard.files / name)}, **fields)


def stamps(yard: Yard, name: str, attempt: int) -> list[float]:
    """Return when *attempt* ran, in seconds of CLOCK_BOOTTIME."""
    path = yard.files / f"{name}.{attempt}"
    return [float(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def wait_for_stamp(yard: Yard, name: str, attempt: int, *, after_s: float = 0.0) -> float:
    def look() -> float | None:
        found = stamps(yard, name, attempt)
        return found[-1] if found and found[-1] > after_s else None

    return eventually(look, f"attempt {attempt} of {name} runs", within_s=60.0)


def let_go(yard: Yard, name: str) -> None:
    (yard.files / f"{name}.go").touch()


def node_of(yard: Yard, job: int) -> str:
    (node,) = yard.client.job(job).nodes
    return str(node)


def now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def never_at_once(yard: Yard, name: str, attempts: int) -> None:
    """Each attempt but the last had stopped for good before the next one began."""
    found = [stamps(yard, name, attempt) for attempt in range(1, attempts + 1)]
    for earlier, later in pairwise(found):
        assert earlier[-1] < later[0], (earlier[-1], later[0])


def test_when_a_node_dies_with_all_its_processes_its_job_runs_elsewhere(yard: Yard) -> None:
    job = stamping(yard, "moves")
    wait_for_stamp(yard, "moves", 1)
    node = node_of(yard, job)
    processes = [psutil.Process(yard.pid(f"node-{node}")), psutil.Process(yard.keeper(node)), *yard.processes(job)]
    began_s = now_s()
    for process in processes:
        process.kill()

    wait_for_stamp(yard, "moves", 2)
    assert node_of(yard, job) != node
    never_at_once(yard, "moves", 2)
    assert stamps(yard, "moves", 2)[0] - began_s >= FAST.requeue_after_s - RENEWALS
    let_go(yard, "moves")
    (view,) = yard.ended(job)
    assert (view.state, view.retries) == ("succeeded", 1)
    yard.start(f"node-{node}")
    eventually(lambda: all(one.state == "ready" for one in yard.client.nodes()), "the node is back")


def test_a_worker_that_stands_still_freezes_its_jobs_and_ends_them_when_it_comes_back(yard: Yard) -> None:
    job = stamping(yard, "overtaken")
    wait_for_stamp(yard, "overtaken", 1)
    node = node_of(yard, job)
    before = yard.incarnation(node)
    (member,) = {one.pid for one in yard.processes(job)}
    os.kill(yard.pid(f"node-{node}"), signal.SIGSTOP)

    wait_for_stamp(yard, "overtaken", 2)
    never_at_once(yard, "overtaken", 2)
    assert psutil.pid_exists(member), "frozen, not ended: nobody there knows that it is lost"
    os.kill(yard.pid(f"node-{node}"), signal.SIGCONT)
    yard.joined_anew(node, before)
    eventually(lambda: not psutil.pid_exists(member) or None, "the stale attempt is ended")
    never_at_once(yard, "overtaken", 2)
    let_go(yard, "overtaken")
    assert yard.ended(job)[0].state == "succeeded"
    after = stamping(yard, "after", gpus=4), stamping(yard, "more", gpus=4)
    for name in ("after", "more"):
        wait_for_stamp(yard, name, 1)
        let_go(yard, name)
    assert [view.state for view in yard.ended(*after)] == ["succeeded", "succeeded"]


def test_when_redis_hangs_all_jobs_freeze_nobody_is_lost_and_all_thaw(yard: Yard) -> None:
    jobs = [stamping(yard, name, gpus=4) for name in ("one", "two")]
    for name in ("one", "two"):
        wait_for_stamp(yard, name, 1)
    redis = yard.cluster.redis.process
    assert redis is not None
    os.kill(redis.pid, signal.SIGSTOP)
    hangs_s = now_s()

    def frozen() -> bool:
        return all(now_s() - stamps(yard, name, 1)[-1] > 0.5 for name in ("one", "two"))

    eventually(frozen, "both are frozen")
    eventually(lambda: now_s() > hangs_s + 2 * FAST.requeue_after_s or None, "longer than a node may be silent")
    assert all(stamps(yard, name, 1)[-1] < hangs_s + FAST.fence_after_s + 1.0 for name in ("one", "two"))
    os.kill(redis.pid, signal.SIGCONT)
    goes_on_s = now_s()
    for name in ("one", "two"):
        wait_for_stamp(yard, name, 1, after_s=goes_on_s)
        let_go(yard, name)
    views = yard.ended(*jobs)
    assert [(view.state, view.retries) for view in views] == [("succeeded", 0), ("succeeded", 0)]


def test_a_worker_that_is_killed_and_comes_back_in_time_finds_its_job_unharmed(yard: Yard) -> None:
    job = stamping(yard, "unharmed")
    wait_for_stamp(yard, "unharmed", 1)
    role = f"node-{node_of(yard, job)}"
    yard.kill(role)
    yard.start(role)
    wait_for_stamp(yard, "unharmed", 1, after_s=now_s())
    let_go(yard, "unharmed")
    (view,) = yard.ended(job)
    assert (view.state, view.retries) == ("succeeded", 0)
    found = stamps(yard, "unharmed", 1)
    assert max(later - earlier for earlier, later in pairwise(found)) < FAST.fence_after_s
