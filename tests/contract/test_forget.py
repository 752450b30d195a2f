"""forget: only ended jobs go, the oldest first."""

from __future__ import annotations

import pytest

from shunter.store import commands
from tests.contract.cluster import Cluster, eventually

LONG_S = 3600.0


@pytest.fixture
def ended(cluster: Cluster) -> list[int]:
    """Five ended jobs, in the order in which they ended; job 1 is queued."""
    leadership, node = cluster.lead(), cluster.join("n1")
    cluster.queued()
    return [cluster.ended(leadership, node) for _ in range(5)]


def left(cluster: Cluster) -> list[int]:
    return sorted(cluster.records())


def test_what_ended_lately_is_kept(cluster: Cluster, ended: list[int]) -> None:
    before = cluster.snapshot()
    assert cluster.run(commands.forget(cluster.keys, keep_s=LONG_S, keep=5)) == 0
    assert cluster.snapshot() == before


def test_what_ended_long_ago_goes_and_what_has_not_ended_stays(cluster: Cluster, ended: list[int]) -> None:
    gone = 0

    def forget() -> bool | None:
        nonlocal gone
        gone += cluster.run(commands.forget(cluster.keys, keep_s=0.0, keep=100))
        return True if gone == 5 else None

    eventually(forget, "all five are forgotten")
    assert left(cluster) == [1]


def test_above_the_most_to_keep_the_oldest_go(cluster: Cluster, ended: list[int]) -> None:
    assert cluster.run(commands.forget(cluster.keys, keep_s=LONG_S, keep=2)) == 3
    assert left(cluster) == [1, *ended[3:]]


def test_not_more_go_at_a_time_than_asked(cluster: Cluster, ended: list[int]) -> None:
    assert cluster.run(commands.forget(cluster.keys, keep_s=LONG_S, keep=0, at_most=4)) == 4
    assert left(cluster) == [1, ended[4]]


def test_a_forgotten_job_is_gone_for_a_late_report(cluster: Cluster) -> None:
    leadership, node = cluster.lead(), cluster.join("n1")
    job_id = cluster.running(leadership, node)
    report = cluster.ending(job_id)
    cluster.report(node, report)
    cluster.run(commands.forget(cluster.keys, keep_s=LONG_S, keep=0))
    assert cluster.report(node, report) == ["gone"]
    assert cluster.records() == {}


def test_an_id_is_not_used_again(cluster: Cluster, ended: list[int]) -> None:
    cluster.run(commands.forget(cluster.keys, keep_s=LONG_S, keep=0))
    assert cluster.submit() == [max(ended) + 1]
