"""forget: only ended jobs go, the oldest first."""

from __future__ import annotations

import pytest

from shunter.store import commands
from shunter.store.commands import Leadership
from tests.contract.cluster import Cluster, eventually

LONG_S = 3600.0


@pytest.fixture
def leadership(cluster: Cluster) -> Leadership:
    return cluster.lead()


@pytest.fixture
def ended(cluster: Cluster, leadership: Leadership) -> list[int]:
    """Five ended jobs, in the order in which they ended; job 1 is queued."""
    node = cluster.join("n1")
    cluster.queued()
    return [cluster.ended(leadership, node) for _ in range(5)]


def left(cluster: Cluster) -> list[int]:
    return sorted(cluster.records())


def test_what_ended_lately_is_kept(cluster: Cluster, leadership: Leadership, ended: list[int]) -> None:
    before = cluster.snapshot()
    assert cluster.run(commands.forget(cluster.keys, leadership, keep_s=LONG_S, keep=5)) == 0
    assert cluster.snapshot() == before


def test_what_ended_long_ago_goes_and_what_has_not_ended_stays(
    cluster: Cluster, leadership: Leadership, ended: list[int]
) -> None:
    gone = 0

    def forget() -> bool | None:
        nonlocal gone
        gone += cluster.run(commands.forget(cluster.keys, leadership, keep_s=0.0, keep=100)) or 0
        return True if gone == 5 else None

    eventually(forget, "all five are forgotten")
    assert left(cluster) == [1]


def test_above_the_most_to_keep_the_oldest_go(cluster: Cluster, leadership: Leadership, ended: list[int]) -> None:
    assert cluster.run(commands.forget(cluster.keys, leadership, keep_s=LONG_S, keep=2)) == 3
    assert left(cluster) == [1, *ended[3:]]


def test_not_more_go_at_a_time_than_asked(cluster: Cluster, leadership: Leadership, ended: list[int]) -> None:
    assert cluster.run(commands.forget(cluster.keys, leadership, keep_s=LONG_S, keep=0, at_most=4)) == 4
    assert left(cluster) == [1, ended[4]]


def test_a_forgotten_job_is_gone_for_a_late_report(cluster: Cluster, leadership: Leadership) -> None:
    node = cluster.join("n1")
    job_id = cluster.running(leadership, node)
    report = cluster.ending(job_id)
    cluster.report(node, report)
    cluster.run(commands.forget(cluster.keys, leadership, keep_s=LONG_S, keep=0))
    assert cluster.report(node, report) == ["gone"]
    assert cluster.records() == {}


def test_an_id_is_not_used_again(cluster: Cluster, leadership: Leadership, ended: list[int]) -> None:
    cluster.run(commands.forget(cluster.keys, leadership, keep_s=LONG_S, keep=0))
    assert cluster.submit() == [max(ended) + 1]


@pytest.mark.parametrize("why", ["an earlier epoch", "another token", "resigned"])
def test_a_stale_leader_forgets_nothing(cluster: Cluster, leadership: Leadership, ended: list[int], why: str) -> None:
    """Design section 3, invariant 4."""
    stale = leadership
    if why == "resigned":
        cluster.run(commands.resign(cluster.keys, leadership))
    else:
        new = cluster.lead("b")
        stale = leadership if why == "an earlier epoch" else Leadership(new.epoch, leadership.token)
    before = cluster.snapshot()
    assert cluster.run(commands.forget(cluster.keys, stale, keep_s=LONG_S, keep=0)) is None
    assert cluster.snapshot() == before
