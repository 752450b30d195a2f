"""Nothing is placed before every node has obeyed an answer of this run of the store: what it forgot may run there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shunter.domain.node import Node
from shunter.domain.phase import Queued, Reserved
from shunter.scheduling.policy import Policy
from tests.contract.cluster import Cluster
from tests.contract.test_coordinator import Leader


@pytest.fixture(autouse=True)
def _not_caught_up(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave it open whether nodes know what the store knows, as after its restart."""
    monkeypatch.setattr(cluster, "catch_up", lambda: None)


@pytest.fixture
def nodes(cluster: Cluster) -> Iterator[list[Node]]:
    nodes = [cluster.join(name) for name in ("n1", "n2")]
    yield nodes
    for node in nodes:
        cluster.redis.delete(cluster.keys.queue(node.name, node.incarnation))  # hints that no worker has taken


def test_after_a_restart_of_the_store_nothing_is_placed_until_every_node_has_obeyed_it(
    cluster: Cluster, nodes: list[Node]
) -> None:
    first, second = nodes
    leader = Leader(cluster, Policy())
    (job_id,) = cluster.submit()

    def look() -> object:
        leader.tick()
        leader.step()
        return cluster.phase(job_id)

    assert isinstance(look(), Queued)
    for node in nodes:
        cluster.renew(node)  # answered, but nobody has said that it was obeyed
    assert isinstance(look(), Queued)
    cluster.renew(first)
    assert isinstance(look(), Queued)
    cluster.renew(second)
    assert isinstance(look(), Reserved)


def test_the_next_leader_in_the_same_run_places_at_once(cluster: Cluster, nodes: list[Node]) -> None:
    first = Leader(cluster, Policy())
    for node in nodes * 2:
        cluster.renew(node)
    first.tick()
    cluster.join("n3")  # which holds nothing that the store may have forgotten
    second = Leader(cluster, Policy())
    (job_id,) = cluster.submit()
    second.tick()
    second.step()
    phase = cluster.phase(job_id)
    assert isinstance(phase, Reserved)
    for share in phase.allocation.shares:
        cluster.redis.delete(cluster.keys.queue(share.node, share.incarnation))
