"""The queues of node incarnations: deleted when nobody reads them any more, whoever was there to see it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shunter.coordinator import step
from shunter.dispatch.celery import CeleryDispatcher, Destination
from shunter.dispatch.transport import KEPT_S
from shunter.domain.ids import Incarnation, JobId, NodeName
from shunter.domain.node import Node
from shunter.errors import StaleLeader
from shunter.scheduling.policy import Policy
from shunter.store import commands
from shunter.store import queues as store_queues
from shunter.store.commands import Leadership
from tests.contract.cluster import Cluster
from tests.contract.test_coordinator import Leader

HINT = (JobId(1), b"queued 0 - 1\n{}")


@pytest.fixture
def dispatcher(cluster: Cluster) -> CeleryDispatcher:
    return CeleryDispatcher(cluster.url, cluster.keys)


@pytest.fixture(autouse=True)
def _leave_no_queue(cluster: Cluster) -> Iterator[None]:
    yield
    for name in queues(cluster):
        cluster.redis.delete(name)


def queues(cluster: Cluster) -> list[str]:
    return sorted(name.decode() for name in cluster.redis.scan_iter(f"{cluster.keys.prefix}q:*"))


def queue(cluster: Cluster, node: Node) -> str:
    return cluster.keys.queue(node.name, node.incarnation)


def joined(cluster: Cluster, dispatcher: CeleryDispatcher, name: str = "n1") -> Node:
    """Return a new incarnation with a hint in its queue."""
    node = cluster.join(name)
    hint(dispatcher, node)
    assert queue(cluster, node) in queues(cluster)
    return node


def hint(dispatcher: CeleryDispatcher, node: Node) -> None:
    dispatcher.send({Destination(node.name, node.incarnation): [HINT]}, "")


def known(cluster: Cluster) -> list[tuple[NodeName, Incarnation]]:
    return cluster.run(store_queues.known(cluster.keys))


# a leader that sees it


def test_the_queue_of_a_replaced_incarnation_is_deleted_and_the_new_ones_stays(
    cluster: Cluster, dispatcher: CeleryDispatcher
) -> None:
    joined(cluster, dispatcher)
    other = joined(cluster, dispatcher, "n2")
    leader = Leader(cluster, Policy())
    assert len(queues(cluster)) == 2
    new = joined(cluster, dispatcher)
    leader.step()
    assert queues(cluster) == [queue(cluster, new), queue(cluster, other)]
    assert known(cluster) == [(new.name, new.incarnation), (other.name, other.incarnation)]


def test_the_queue_of_a_node_that_left_is_deleted(cluster: Cluster, dispatcher: CeleryDispatcher) -> None:
    node = joined(cluster, dispatcher)
    leader = Leader(cluster, Policy())
    assert cluster.run(commands.leave(cluster.keys, node.name)) == "ok"
    leader.step()
    assert queues(cluster) == []
    assert known(cluster) == []


def test_a_new_inventory_of_the_same_incarnation_keeps_its_queue(
    cluster: Cluster, dispatcher: CeleryDispatcher
) -> None:
    node = joined(cluster, dispatcher)
    leader = Leader(cluster, Policy())
    cluster.run(commands.register(cluster.keys, node, "host-1", replace_after_ms=0))
    leader.step()
    assert queues(cluster) == [queue(cluster, node)]


# nobody that sees it


def test_a_new_leader_finds_the_queues_of_who_died_while_nobody_led(
    cluster: Cluster, dispatcher: CeleryDispatcher
) -> None:
    dead = [joined(cluster, dispatcher) for _ in range(3)]
    left = joined(cluster, dispatcher, "n2")
    assert cluster.run(commands.leave(cluster.keys, left.name)) == "ok"
    new = joined(cluster, dispatcher)
    assert len(queues(cluster)) == len(dead) + 2
    Leader(cluster, Policy())
    assert queues(cluster) == [queue(cluster, new)]
    assert known(cluster) == [(new.name, new.incarnation)]


def test_a_leader_looks_for_dead_queues_each_minute(
    cluster: Cluster, dispatcher: CeleryDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = Leader(cluster, Policy())
    joined(cluster, dispatcher)
    new = joined(cluster, dispatcher)
    leader.tick()
    assert len(queues(cluster)) == 2
    monkeypatch.setattr(step, "BURY_EVERY_S", 0.0)
    leader.tick()  # it has followed neither
    assert queues(cluster) == [queue(cluster, new)]


def test_a_queue_that_comes_back_after_its_deletion_expires(cluster: Cluster, dispatcher: CeleryDispatcher) -> None:
    """A leader that was paused between its decision and its hint sends it when it wakes, however late."""
    old = joined(cluster, dispatcher)
    joined(cluster, dispatcher)
    Leader(cluster, Policy())
    assert queue(cluster, old) not in queues(cluster)
    hint(dispatcher, old)
    assert 0 < cluster.redis.ttl(queue(cluster, old)) <= KEPT_S
    cluster.redis.expire(queue(cluster, old), 30)
    hint(dispatcher, old)
    assert 30 < cluster.redis.ttl(queue(cluster, old)) <= KEPT_S
    assert cluster.redis.llen(queue(cluster, old)) == 2


# who may


@pytest.mark.parametrize("why", ["an earlier epoch", "another token", "resigned"])
def test_a_stale_leader_buries_nothing(cluster: Cluster, dispatcher: CeleryDispatcher, why: str) -> None:
    """Design section 3, invariant 4."""
    old = cluster.lead("a")
    dead = joined(cluster, dispatcher)
    joined(cluster, dispatcher)
    stale = old
    if why == "resigned":
        cluster.run(commands.resign(cluster.keys, old))
    else:
        new = cluster.lead("b")
        stale = old if why == "an earlier epoch" else Leadership(new.epoch, old.token)
    before = cluster.snapshot()
    assert cluster.run(store_queues.bury(cluster.keys, stale, [(dead.name, dead.incarnation)])) is None
    assert cluster.snapshot() == before


def test_who_lives_after_all_is_not_buried(cluster: Cluster, dispatcher: CeleryDispatcher) -> None:
    leadership = cluster.lead()
    dead = joined(cluster, dispatcher)
    lives = joined(cluster, dispatcher)
    both = [(one.name, one.incarnation) for one in (lives, dead)]
    assert cluster.run(store_queues.bury(cluster.keys, leadership, both)) == 1
    assert queues(cluster) == [queue(cluster, lives)]
    assert known(cluster) == [both[0]]


def test_more_than_one_script_call_takes_are_buried(cluster: Cluster) -> None:
    cluster.redis.sadd(cluster.keys.queues, *(f"n{number} 1" for number in range(commands.MAX_BATCH + 1)))
    Leader(cluster, Policy())
    assert known(cluster) == []


@pytest.mark.parametrize("what", ["forget", "bury"])
def test_a_leader_that_is_told_so_by_a_housekeeping_script_no_longer_leads(
    cluster: Cluster, dispatcher: CeleryDispatcher, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = Leader(cluster, Policy())
    for _ in range(2):
        joined(cluster, dispatcher)
    cluster.lead("b")
    monkeypatch.setattr(step, "BURY_EVERY_S", 0.0 if what == "bury" else 3600.0)
    with pytest.raises(StaleLeader):
        leader.tick()
    assert len(queues(cluster)) == 2
