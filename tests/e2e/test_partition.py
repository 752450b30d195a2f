"""The row `cut-off` of `benchmarks.takeover`, once on Sentinel and once on a Redis Cluster. Needs root and `ip`.

The Redis that serves, the leader and two nodes with jobs are cut off together, and so look to themselves like a whole
cluster, for longer than their leases last.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from benchmarks.fault_world import world_of
from benchmarks.partition import Apart, cut_off

from shunter.domain.lease import FAST

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server 7 is needed"),
    pytest.mark.usefixtures("namespaces"),
]


@pytest.mark.parametrize("mode", ["sentinel", "cluster"])
def test_a_part_that_is_cut_off_with_the_serving_redis_doubles_and_loses_nothing(mode: str, tmp_path: Path) -> None:
    with world_of(Apart(tmp_path, "fast", mode, down_after_ms=1_000), tmp_path / "logs") as world:
        found = cut_off(world, 1, FAST.requeue_after_s + 4)
    assert (found.doubled, found.lost) == (0, 0)
    assert found.unconfirmed_lost <= found.unconfirmed < found.submissions
