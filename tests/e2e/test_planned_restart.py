"""A node worker that is asked to end, for a new version say: its jobs run on meanwhile, for their lease is longer."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

import shunter
from shunter.domain.lease import FAST
from tests.e2e.test_leases import let_go, never_at_once, node_of, now_s, stamping, stamps, wait_for_stamp
from tests.e2e.yard import eventually, yard_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_jobs_of_a_worker_that_is_restarted_run_on_for_longer_than_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHUNTER_LEASE", "fast")
    with yard_of("n1=simulated:4", "n2=simulated:4", watched=False) as yard:
        job = stamping(yard, "runs-on")
        wait_for_stamp(yard, "runs-on", 1)
        role = f"node-{node_of(yard, job)}"
        process = yard.cluster.roles[role].process
        assert process is not None
        process.terminate()
        process.wait()
        ended_s = now_s()
        eventually(lambda: now_s() > ended_s + FAST.requeue_after_s + 2 or None, "longer than a node may be silent")
        assert wait_for_stamp(yard, "runs-on", 1, after_s=now_s() - 0.5)
        yard.start(role)
        eventually(lambda: all(one.state == "ready" for one in yard.client.nodes()), "the node is back")
        joined_s = now_s()
        eventually(lambda: now_s() > joined_s + FAST.fence_after_s + 1 or None, "longer than its first lease")
        wait_for_stamp(yard, "runs-on", 1, after_s=now_s())
        let_go(yard, "runs-on")
        (view,) = yard.ended(job)
        assert (view.state, view.retries) == ("succeeded", 0)
        never_at_once(yard, "runs-on", 1)
        found = stamps(yard, "runs-on", 1)
        assert max(later - earlier for earlier, later in pairwise(found)) < 1.0


def test_a_worker_of_another_version_takes_the_keeper_along_and_the_job_runs_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(Path(shunter.__file__).parent, tmp_path / "shunter")
    initial = tmp_path / "shunter" / "__init__.py"
    initial.write_text(initial.read_text().replace(f'"{shunter.__version__}"', '"9.9.9"'))
    with yard_of("n1=simulated:4", watched=False) as yard:
        job = stamping(yard, "carried")
        wait_for_stamp(yard, "carried", 1)
        (member,), keeper = {one.pid for one in yard.processes(job)}, yard.keeper("n1")
        process = yard.cluster.roles["node-n1"].process
        assert process is not None
        process.terminate()
        process.wait()
        monkeypatch.setitem(yard.cluster.roles["node-n1"]._env, "PYTHONPATH", str(tmp_path))
        yard.start("node-n1")
        goes_on = psutil.Process(keeper)
        eventually(lambda: goes_on.environ().get("PYTHONPATH") == str(tmp_path) or None, "the keeper goes on as 9.9.9")
        wait_for_stamp(yard, "carried", 1, after_s=now_s())
        assert (yard.keeper("n1"), {one.pid for one in yard.processes(job)}) == (keeper, {member})
        let_go(yard, "carried")
        (view,) = yard.ended(job)
        assert (view.state, view.retries) == ("succeeded", 0)
        found = stamps(yard, "carried", 1)
        assert max(later - earlier for earlier, later in pairwise(found)) < 1.0
