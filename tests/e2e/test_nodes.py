"""Nodes that fall silent, that are started twice, that share a name; and more than one gateway."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shunter.domain.reason import NotEnoughFree
from shunter.sdk.client import Client
from tests.e2e.yard import ENOUGH_S, Yard, eventually, yard_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@contextlib.contextmanager
def role(yard: Yard, module: str, *options: str, home: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run one more role of the yard's cluster; its output goes to `extra.log`."""
    command = [sys.executable, "-m", module, "--home", str(home or yard.home), "--cluster", yard.name, *options]
    with (yard.home / "logs" / "extra.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def state(yard: Yard, node: str) -> str:
    return next(view.state for view in yard.client.nodes() if view.node.name == node)


def test_a_node_that_falls_silent_gets_nothing_new_keeps_what_it_has_and_comes_back() -> None:
    with yard_of("n1=simulated:1", "n2=simulated:2", watched=False) as yard:
        keeps = yard.held("keeps", code=4)
        yard.wait_for_lines("keeps")
        (node,) = yard.client.job(keeps).nodes
        assert node == "n1"  # the best fit
        os.kill(yard.pid("node-n1"), signal.SIGSTOP)
        eventually(lambda: state(yard, "n1") == "silent", "n1 is silent")
        yard.let_go("keeps")
        yard.wait_for_lines("keeps", 2)
        others = [yard.held(f"other-{number}") for number in range(2)]
        for number in range(2):
            yard.wait_for_lines(f"other-{number}")
        assert {yard.client.job(job).nodes for job in others} == {("n2",)}
        waits = yard.submit(["true"])
        assert yard.waiting_for(waits, NotEnoughFree).free_gpus == 0
        assert yard.client.job(keeps).state == "running"  # nobody has heard of its end

        os.kill(yard.pid("node-n1"), signal.SIGCONT)
        assert [view.exit_status for view in yard.ended(keeps, waits)] == [4, 0]
        assert state(yard, "n1") == "ready"
        yard.let_go("other-0", "other-1")
        yard.ended(*others)
        yard.replayed().check_once(keeps, waits, *others)


def test_a_second_worker_of_a_node_takes_over_and_the_first_one_ends() -> None:
    with yard_of("n1=simulated:2", watched=False) as yard:
        job = yard.held("through", code=8)
        yard.wait_for_lines("through")
        incarnation, first = yard.incarnation("n1"), yard.cluster.roles["node-n1"].process
        assert first is not None
        with role(yard, "shunter.agent", "--name", "n1", "--gpus", "simulated:2"):
            yard.joined_anew("n1", incarnation)
            assert first.wait(ENOUGH_S) == 6
            assert yard.ended(yard.submit(["true"]))[0].state == "succeeded"
            yard.let_go("through")
            assert yard.ended(job)[0].exit_status == 8
            yard.replayed().check_once(job)


def test_a_name_that_another_machine_uses_is_refused(yard: Yard, tmp_path: Path) -> None:
    before = yard.incarnation("n1")
    options = ("--name", "n1", "--gpus", "simulated:2", "--redis", yard.cluster.redis.url)
    with role(yard, "shunter.agent", *options, home=tmp_path) as stranger:
        assert stranger.wait(ENOUGH_S) != 0
    assert "node 'n1' is in use on" in (yard.home / "logs" / "extra.log").read_text()
    assert yard.incarnation("n1") == before
    assert yard.ended(yard.submit(["true"], gpus=4))[0].state == "succeeded"


def test_any_gateway_knows_all_and_no_other_is_needed() -> None:
    with yard_of("n1=simulated:2", watched=False) as yard:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        token = (yard.home / "token").read_text().strip()
        with (
            role(yard, "shunter.gateway", "--port", str(port)),
            Client(url, token) as two,
        ):
            eventually(lambda: two.health().status == "ok", "the second gateway answers")
            job = two.submit(command='until [ -e "$GO" ]; do sleep 0.05; done', env={"GO": str(yard.files / "go")}).id
            assert yard.in_state(job, "running").id == job
            yard.kill("gateway")
            (yard.files / "go").touch()
            (view,) = two.wait(job, timeout_s=ENOUGH_S)
            assert view.state == "succeeded"
            yard.start("gateway")
            eventually(lambda: yard.client.health().status == "ok", "the first gateway answers again")
            assert yard.client.job(job) == two.job(job)
