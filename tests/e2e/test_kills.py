"""Everything but Redis may be killed at any time: jobs end exactly once, with their true exit codes."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from shunter.domain.outcome import FailureClass
from shunter.domain.report import JobView
from shunter.sdk.client import Client
from tests.e2e.yard import ENOUGH_S, Yard, eventually, psutil_wait, yard_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

NAMES = [f"job-{number}" for number in range(8)]

AGAIN = """
echo "$SHUNTER_ATTEMPT $SHUNTER_NODE $SHUNTER_RETRIES $SHUNTER_RESTART_COUNT" >>"$FILES/attempts"
if [ "$SHUNTER_ATTEMPT" = 1 ]; then
  echo half >"$SHUNTER_CHECKPOINT_DIR/state"
  setsid sh -c 'echo $$ >"$FILES/hidden"; exec sleep 600' &
  wait
fi
[ "$(cat "$SHUNTER_CHECKPOINT_DIR/state")" = half ] && exit 4
"""
"""A first attempt that never ends, with a child in a session of its own; a second that finds the first's checkpoint."""


class Noticing(httpx.HTTPTransport):
    """*following* is set once the events are followed: from then on a client rides out a gateway's death."""

    def __init__(self) -> None:
        super().__init__()
        self.following = threading.Event()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if request.url.path == "/v1/events":
            self.following.set()
        return response


class Waiter:
    """Waits for jobs on a thread and a client of its own, through whatever happens to the gateway."""

    def __init__(self, yard: Yard, ids: list[int]) -> None:
        transport = Noticing()
        self._pool = ThreadPoolExecutor(1)
        self._client = Client(yard.cluster.url, (yard.home / "token").read_text().strip(), transport=transport)
        self._views = self._pool.submit(self._client.wait, *ids, timeout_s=60)
        assert transport.following.wait(ENOUGH_S)

    def join(self) -> list[JobView]:
        with self._pool, self._client:
            return self._views.result()


def test_gateway_coordinator_and_node_are_killed_in_turn_and_all_jobs_end_once_with_their_codes() -> None:
    with yard_of("n1=simulated:4", "n2=simulated:4") as yard:
        ids = [yard.held(name, code=10 + number) for number, name in enumerate(NAMES)]
        for name in NAMES:
            yard.wait_for_lines(name)
        epoch, incarnation = yard.client.cluster().epoch, yard.incarnation("n1")
        assert len(yard.replayed().holding()) == 8
        waiter = Waiter(yard, ids)
        # Two jobs end while each role is down; they are on either node.
        for number, role in enumerate(("gateway", "coordinator", "node-n1")):
            ending = (NAMES[number], NAMES[number + 4])
            yard.kill(role)
            yard.let_go(*ending)
            for name in ending:
                yard.wait_for_lines(name, 2)
            yard.revived(role)
        assert yard.new_epoch(epoch) == epoch + 1
        yard.joined_anew("n1", incarnation)
        yard.let_go(*NAMES)
        views = waiter.join()
        assert [view.exit_status for view in views] == [10 + number for number in range(8)]
        assert {(view.state, view.attempt, view.retries) for view in views} == {("failed", 1, 0)}
        assert [yard.lines(name) for name in NAMES] == [["start 1", "end 1"]] * 8
        yard.replayed().check_once(*ids)


def test_all_roles_are_killed_at_once_and_the_jobs_do_not_notice() -> None:
    with yard_of("n1=simulated:4", "n2=simulated:4") as yard:
        ids = [yard.held(name, code=number) for number, name in enumerate(NAMES)]
        for name in NAMES:
            yard.wait_for_lines(name)
        yard.kill("gateway", "coordinator", "node-n1", "node-n2")
        yard.let_go(*NAMES)
        yard.revived("gateway")
        assert [view.exit_status for view in yard.ended(*ids)] == list(range(8))
        assert [yard.lines(name) for name in NAMES] == [["start 1", "end 1"]] * 8
        yard.replayed().check_once(*ids)


def test_a_job_killed_from_outside_failed_with_that_signal(yard: Yard) -> None:
    job = yard.submit('echo $$ >"$FILES/victim"; sleep 600 & wait', env={"FILES": str(yard.files)})
    (line,) = yard.wait_for_lines("victim")
    os.killpg(int(line), signal.SIGKILL)
    (view,) = yard.ended(job)
    assert (view.state, view.exit_status, view.attempt) == ("failed", 137, 1)
    assert view.outcome is not None
    assert (view.outcome.signal, view.outcome.failure) == (9, FailureClass.SIGNALLED)
    assert view.outcome.message == "killed by SIGKILL"


def test_an_end_that_no_worker_saw_keeps_its_true_status() -> None:
    with yard_of("n1=simulated:4", watched=False) as yard:
        codes = {"goes": 0, "fails": 23, "dies": None, "stays": 5}
        ids = {name: yard.held(name, code=code or 0) for name, code in codes.items()}
        for name in codes:
            yard.wait_for_lines(name)
        yard.kill("node-n1")
        yard.let_go("goes", "fails")
        for process in yard.processes(ids["dies"]):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        for name in ("goes", "fails", "dies"):
            eventually(lambda name=name: not yard.processes(ids[name]), f"{name} is over")  # type: ignore[misc]
        assert {yard.client.job(job).state for job in ids.values()} == {"running"}  # nobody has told the store
        yard.start("node-n1")
        goes, fails, dies = yard.ended(ids["goes"], ids["fails"], ids["dies"])
        assert (goes.state, fails.exit_status) == ("succeeded", 23)
        assert dies.outcome is not None
        assert dies.outcome.signal == signal.SIGTERM
        yard.let_go("stays")
        assert yard.ended(ids["stays"])[0].exit_status == 5
        yard.replayed().check_once(*ids.values())


@pytest.mark.parametrize("with_worker", [False, True], ids=["keeper", "keeper and worker"])
def test_with_the_keeper_its_jobs_end_and_are_tried_again_elsewhere(with_worker: bool) -> None:
    with yard_of("n1=simulated:2", "n2=simulated:2") as yard:
        job = yard.submit(AGAIN, env={"FILES": str(yard.files)})
        (hidden,) = yard.wait_for_lines("hidden")
        (first,) = yard.client.job(job).nodes
        processes = yard.processes(job)
        assert int(hidden) in {process.pid for process in processes}
        os.kill(yard.keeper(first), signal.SIGKILL)
        if with_worker:
            yard.kill(f"node-{first}")
        (view,) = yard.ended(job)
        assert (view.state, view.exit_status, view.attempt, view.retries) == ("failed", 4, 2, 1)
        (past,) = view.past
        assert (past.attempt, past.nodes, past.outcome.failure) == (1, (first,), FailureClass.KEEPER_LOST)
        second = "n2" if first == "n1" else "n1"
        assert yard.lines("attempts") == [f"1 {first} 0 0", f"2 {second} 1 1"]
        for process in processes:
            psutil_wait(process.pid)
        after = yard.held("after", gpus=2)  # the node whose keeper died has a new one
        beside = yard.held("beside", gpus=2)
        assert {*yard.in_state(after, "running").nodes, *yard.in_state(beside, "running").nodes} == {"n1", "n2"}
        yard.let_go("after", "beside")
        yard.ended(after, beside)


def test_a_worker_killed_between_claim_and_start_loses_no_job() -> None:
    """Jobs are submitted while the node's worker is killed again and again: whatever it was doing, each ends once."""
    with yard_of("n1=simulated:4", watched=False) as yard:
        ids: list[int] = []
        for round_ in range(4):
            incarnation = yard.incarnation("n1")
            for number in range(8):
                name = f"{round_}-{number}"
                ids.append(yard.held(name, code=number))
                yard.let_go(name)
            eventually(lambda: any(yard.client.job(job).state != "queued" for job in ids[-8:]), "some have begun")
            yard.kill("node-n1")
            yard.start("node-n1")
            yard.joined_anew("n1", incarnation)
        views = yard.ended(*ids)
        assert [view.exit_status for view in views] == [*range(8)] * 4
        for round_ in range(4):
            for number in range(8):
                lines = yard.lines(f"{round_}-{number}")
                assert [line.split()[0] for line in lines] == ["start", "end"], lines
