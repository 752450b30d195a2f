"""Nodes that are gone, or stand still: their jobs run elsewhere, and never twice at once.

That is judged by what the jobs themselves write: each attempt stamps the boot-time clock into a file of its own.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise, product

import psutil
import pytest

from shunter.domain.ids import NodeName
from shunter.domain.lease import FAST
from shunter.domain.outcome import FailureClass
from shunter.domain.reason import NodeSilent
from tests.e2e.test_leader import leads, second_coordinator
from tests.e2e.yard import Yard, eventually, yard_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

STAMPING = """
import os, sys, time
file = os.open(f"{os.environ['STAMPS']}.{os.environ['SHUNTER_ATTEMPT']}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
while not os.path.exists(os.environ["STAMPS"] + ".go"):
    os.write(file, b"%.4f\\n" % time.clock_gettime(time.CLOCK_BOOTTIME))
    time.sleep(0.01)
"""
STAMPING_MEMBER = STAMPING.replace("{os.environ['STAMPS']}", "{os.environ['STAMPS']}.{os.environ['SHUNTER_NODE']}")
"""Each member of a gang stamps into a file of its own: `stamps` finds it under NAME.NODE."""

RENEWALS = 3 * FAST.renew_s
"""For a renewal and two checks."""


@pytest.fixture
def yard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    monkeypatch.setenv("SHUNTER_LEASE", "fast")
    with yard_of("n1=simulated:4", "n2=simulated:4", watched=False) as yard:
        yield yard


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    monkeypatch.setenv("SHUNTER_LEASE", "fast")
    with yard_of(*(f"n{number}=simulated:4" for number in (1, 2, 3)), watched=False) as yard:
        yield yard


@pytest.fixture
def unfenced(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Yard:
    """Two nodes that only an operator gives up."""
    monkeypatch.setenv("SHUNTER_FENCE", "operator")
    yard: Yard = request.getfixturevalue("yard")
    return yard


def stamping(yard: Yard, name: str, *, program: str = STAMPING, **fields: object) -> int:
    return yard.submit(["python3", "-c", program], name=name, env={"STAMPS": str(yard.files / name)}, **fields)


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


def kill_node(yard: Yard, node: str) -> None:
    """Kill all that runs on *node*, as a power cut does."""
    marker = {"SHUNTER_NODE": node}.items()
    members = [process for process in yard.processes() if marker <= process.environ().items()]
    for process in [psutil.Process(yard.pid(f"node-{node}")), psutil.Process(yard.keeper(node)), *members]:
        process.kill()


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
    assert yard.client.job(job).reason is None
    os.kill(yard.pid(f"node-{node}"), signal.SIGSTOP)
    said = eventually(lambda: yard.client.job(job).reason, "a job that may be frozen says so")
    assert isinstance(said, NodeSilent)
    assert (said.node, said.fence_after_s, said.requeue_after_s) == (node, FAST.fence_after_s, FAST.requeue_after_s)

    wait_for_stamp(yard, "overtaken", 2)
    eventually(lambda: yard.client.job(job).reason is None or None, "where it runs now all is well")
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
    least_s = goes_on_s - hangs_s - FAST.fence_after_s - 1.0
    assert all(view.outcome is not None and view.outcome.frozen_s > least_s for view in views), "each end tells of it"
    told = [one.text for one in yard.client.events() if one.kind == "thawed"]
    assert {f"job {job} went on after" in text for job, text in product(jobs, told)} == {True, False}, told
    assert "the lease has passed: members are frozen" in (yard.home / "nodes" / "n1" / "keeper.log").read_text()


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


def test_a_node_that_may_run_without_a_deadline_keeps_its_job_until_an_operator_gives_it_up(unfenced: Yard) -> None:
    yard = unfenced
    job = stamping(yard, "kept")
    wait_for_stamp(yard, "kept", 1)
    node = node_of(yard, job)
    assert {view.lease for view in yard.client.nodes()} == {"unfenced"}
    kill_node(yard, node)
    died_s = now_s()
    eventually(lambda: now_s() > died_s + FAST.requeue_after_s + 3.0 or None, "longer than any other may be silent")
    view = yard.client.job(job)
    assert (view.state, view.attempt, view.nodes) == ("running", 1, (node,))
    assert view.why.startswith(f"node {node} has not answered for ") and "it may run on there" in view.why
    assert [one.state for one in yard.client.nodes() if one.node.name == node] == ["silent"]

    lost = yard.client.lose(node, "its power supply burnt")
    given_up_s = now_s()
    assert (lost.state, lost.lease, lost.jobs) == ("lost", "", ())
    assert wait_for_stamp(yard, "kept", 2) < given_up_s + FAST.requeue_after_s, "at once, but for the pause of a retry"
    assert node_of(yard, job) != node
    never_at_once(yard, "kept", 2)
    let_go(yard, "kept")
    (view,) = yard.ended(job)
    (past,) = view.past
    assert (view.state, past.outcome.failure) == ("succeeded", FailureClass.NODE_LOST)
    assert past.outcome.message == f"node {node} was lost: its power supply burnt"
    yard.start(f"node-{node}")
    eventually(lambda: all(one.state == "ready" for one in yard.client.nodes()), "the node is back")


def test_when_one_node_of_a_gang_dies_its_other_member_has_ended_before_the_gang_runs_again(three: Yard) -> None:
    yard = three
    job = stamping(yard, "gang", program=STAMPING_MEMBER, gpus=8, nodes=2)
    first = yard.in_state(job, "running").nodes
    for node in first:
        wait_for_stamp(yard, f"gang.{node}", 1)
    dies, stays = first
    kill_node(yard, dies)
    died_s = now_s()

    def again() -> tuple[NodeName, ...] | None:
        view = yard.client.job(job)
        return view.nodes if view.attempt == 2 else None

    second = eventually(again, "the gang is placed again", within_s=30.0)
    assert set(second) == {"n1", "n2", "n3"} - {dies}
    for node in second:
        wait_for_stamp(yard, f"gang.{node}", 2)
    began_s = min(stamps(yard, f"gang.{node}", 2)[0] for node in second)
    assert stamps(yard, f"gang.{dies}", 1)[-1] < began_s
    assert died_s + FAST.requeue_after_s - 3.0 < stamps(yard, f"gang.{stays}", 1)[-1] < began_s
    let_go(yard, "gang")
    (view,) = yard.ended(job)
    assert (view.state, view.attempt, view.retries) == ("succeeded", 2, 1)
    assert [(past.nodes, past.outcome.failure) for past in view.past] == [(first, FailureClass.NODE_LOST)]


def test_when_only_the_keeper_is_killed_its_job_runs_again_and_never_twice_at_once(yard: Yard) -> None:
    job = stamping(yard, "kept")
    wait_for_stamp(yard, "kept", 1)
    node = node_of(yard, job)
    worker = yard.pid(f"node-{node}")
    os.kill(yard.keeper(node), signal.SIGKILL)

    wait_for_stamp(yard, "kept", 2)
    never_at_once(yard, "kept", 2)
    let_go(yard, "kept")
    (view,) = yard.ended(job)
    assert [past.outcome.failure for past in view.past] == [FailureClass.KEEPER_LOST]
    assert (view.state, yard.pid(f"node-{node}")) == ("succeeded", worker)
    assert {one.state for one in yard.client.nodes()} == {"ready"}, "nobody was lost"


def test_a_leader_that_stood_still_while_another_lost_a_node_doubles_nothing(three: Yard) -> None:
    yard = three
    jobs = [stamping(yard, name, gpus=4) for name in ("stays", "moves")]
    for name in ("stays", "moves"):
        wait_for_stamp(yard, name, 1)
    node, epoch, pid = node_of(yard, jobs[1]), yard.client.cluster().epoch, yard.pid("coordinator")
    with second_coordinator(yard):
        log = yard.home / "logs" / "second.log"
        eventually(lambda: log.exists() or None, "the second runs")
        os.kill(pid, signal.SIGSTOP)
        kill_node(yard, node)  # silent in the eyes of the first: a while already when it wakes
        eventually(lambda: leads(yard, "second"), "the second leads")
        assert yard.ended(yard.submit(["true"]))[0].state == "succeeded", "placements go on"
        wait_for_stamp(yard, "moves", 2)
        os.kill(pid, signal.SIGCONT)
        first = yard.home / "logs" / "coordinator.log"
        eventually(lambda: "no longer leading" in first.read_text(), "the first knows")

        let_go(yard, "stays")
        assert yard.ended(jobs[0])[0].state == "succeeded"
        assert yard.ended(yard.submit(["true"], gpus=4))[0].state == "succeeded", "placements still go on"
        never_at_once(yard, "moves", 2)
        assert not stamps(yard, "moves", 3)
        let_go(yard, "moves")
        views = yard.ended(*jobs)
        assert [(view.state, view.attempt) for view in views] == [("succeeded", 1), ("succeeded", 2)]
        assert yard.replayed().epochs == [epoch, epoch + 1]
        assert [event.node for event in yard.client.events() if event.kind == "node_lost"] == [node]
