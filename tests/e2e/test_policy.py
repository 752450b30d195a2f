"""The policy file under a running leader: a valid change is in force within seconds, a mistake changes nothing."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from shunter.domain.reason import InLine
from shunter.errors import NotFound
from shunter.local.cluster import LocalCluster
from shunter.runtime.policy_file import read_policy
from shunter.runtime.policy_report import PolicyInForce
from tests.e2e.yard import CPUS, Yard, eventually, yard_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def shunter(yard: Yard, *argv: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"SHUNTER_HOME": str(yard.home)}
    return subprocess.run(
        [sys.executable, "-m", "shunter", *argv], env=env, capture_output=True, text=True, check=False
    )


def shown(yard: Yard) -> PolicyInForce:
    ran = shunter(yard, "policy", "show", "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    return msgspec.json.decode(ran.stdout, type=PolicyInForce)


def in_force_once(yard: Yard, true_of: Callable[[PolicyInForce], bool], what: str) -> PolicyInForce:
    """Wait until what the gateway answers is so, and return what the command line shows then."""

    def look() -> bool:
        with contextlib.suppress(NotFound):  # the leader has only just begun
            return true_of(yard.client.policy())
        return False

    eventually(look, what)
    return shown(yard)


def test_a_leader_follows_its_policy_file() -> None:
    with yard_of("n1=simulated:1") as yard:
        file = yard.home / "policy.yaml"
        first = in_force_once(yard, lambda _: True, "a policy is in force")
        assert (first.policy, first.source, first.error) == (read_policy("default"), "default (shipped)", "")

        file.write_text("order: [age]   # first come, first served\nseed: 7\n")
        second = in_force_once(yard, lambda now: now.policy.seed == 7, "the new policy is in force")
        assert (second.text, second.source, second.error) == (file.read_text(), str(file), "")
        assert second.policy == read_policy(file)
        assert (second.leader, second.epoch) == (first.leader, first.epoch)
        assert second.since_s > first.since_s
        assert shunter(yard, "policy", "diff", str(file)).returncode == 0
        assert yard.ended(yard.submit(["true"], gpus=0))[0].state == "succeeded"

        wrong = "order: [age]\nseed: eight\n"
        file.write_text(wrong)
        third = in_force_once(yard, lambda now: now.error != "", "the mistake is told")
        assert third.error.startswith(f"{file}:2:7: seed: expected a whole number")
        assert (third.policy, third.text, third.since_s) == (second.policy, second.text, second.since_s)
        assert yard.ended(yard.submit(["true"], gpus=0))[0].state == "succeeded"
        log = (yard.home / "logs" / "coordinator.log").read_text()
        assert log.count("policy refused") == 1
        assert log.count('"policy changed"') == 1

        file.write_text("order: [age]\nseed: 8\n")
        fourth = in_force_once(yard, lambda now: now.policy.seed == 8, "the mended policy is in force")
        assert fourth.error == ""


def test_a_new_leader_keeps_the_policy_and_says_so() -> None:
    with yard_of("n1=simulated:1") as yard:
        (yard.home / "policy.yaml").write_text("seed: 7\n")
        before = in_force_once(yard, lambda now: now.policy.seed == 7, "the new policy is in force")
        yard.kill("coordinator")
        after = in_force_once(yard, lambda now: now.epoch > before.epoch, "another leads")
        assert (after.policy, after.since_s) == (before.policy, before.since_s)
        assert after.leader != before.leader


def test_a_new_policy_is_acted_on_though_nothing_else_happens() -> None:
    with yard_of("n1=simulated:1") as yard:
        file = yard.home / "policy.yaml"
        file.write_text("order: [age]\n")
        in_force_once(yard, lambda now: now.policy.order == ("age",), "no backfill")
        half = yard.held("half", gpus=0, cpus=CPUS // 2, time="1h")
        yard.wait_for_lines("half")
        whole = yard.held("whole", gpus=0, cpus=CPUS)
        short = yard.held("short", gpus=0, cpus=1, time="1m")
        yard.waiting_for(short, InLine)
        file.write_text("order: [age]\nbackfill: {depth: 1}\n")
        yard.wait_for_lines("short")
        yard.let_go("half", "whole", "short")
        assert [view.state for view in yard.ended(half, whole, short)] == ["succeeded"] * 3


def test_up_passes_the_policy_on(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, nodes=[], policy="easy") as cluster, cluster.client() as client:

        def source() -> str | None:
            with contextlib.suppress(NotFound):
                return client.policy().source
            return None

        assert eventually(source, "a policy is in force") == "easy (shipped)"


@pytest.mark.parametrize("role", [["-m", "shunter.coordinator"], ["-m", "shunter", "up", "--gpus", "simulated:1"]])
def test_a_policy_that_is_not_valid_at_the_start_stops_it_with_one_line(tmp_path: Path, role: list[str]) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("order: [agee]\n")
    for more, env in (([], {}), (["--policy", str(file)], {}), ([], {"SHUNTER_POLICY": str(file)})):
        home = tmp_path / "elsewhere" if more or env else tmp_path
        ran = subprocess.run(
            [sys.executable, *role, "--home", str(home), *more],
            env=os.environ | env,
            capture_output=True,
            text=True,
            check=False,
        )
        said = f"shunter: {file}:1:9: order: expected a part, got 'agee'; did you mean age?\n"
        assert (ran.returncode, ran.stderr) == (2, said)
        assert not home.joinpath("redis").exists()
