"""A node worker that is asked to end, for a new version say: its jobs run on meanwhile, for their lease is longer."""

from __future__ import annotations

from itertools import pairwise

import pytest

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
