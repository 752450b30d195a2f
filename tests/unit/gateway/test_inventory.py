"""Pools that the policy deals out, and what shares leave of a node's GPUs."""

from __future__ import annotations

import msgspec
import pytest

from shunter.domain.ids import AllocationId, Incarnation, NodeName
from shunter.domain.job import in_gpus
from shunter.domain.node import Gpu, Node
from shunter.domain.phase import Allocation, Ended, NodeShare, Queued, Reserved, Running
from shunter.gateway.describe import where
from shunter.gateway.inventory import free_milli, in_pools
from shunter.runtime.policy_report import PolicyInForce
from shunter.scheduling.policy import Policy
from shunter.store.codec import Record, record
from tests.unit.domain.samples import LOST

N1 = NodeName("n1")


def node(name: str = "n1", *, gpus: int = 2, pool: str = "") -> Node:
    devices = tuple(Gpu(index, "H100", f"gpu-{index}", 81_920, healthy=index != 9) for index in range(gpus))
    return Node(NodeName(name), Incarnation("1"), devices, 8, 1_024, 0.0, pool=pool)


def held(*gpus: int, milli: int = 1_000, on: str = "n1") -> Record:
    share = NodeShare(NodeName(on), Incarnation("1"), gpus, gpu_milli=milli)
    return record(Running(1, Allocation(AllocationId("1.1"), (share,)), 1.0), 3)


@pytest.mark.parametrize(
    ("records", "free"),
    [
        ([], 2),
        ([held(0)], 1),
        ([held(0, milli=250)], 1.75),
        ([held(0, milli=250), held(0, milli=750)], 1),
        ([held(0, milli=100)] * 3 + [held(1)], 0.7),
        ([held(0, on="n2"), None, record(Queued(1.0), 1), record(Ended(LOST, 2.0), 5)], 2),
        ([held(7)], 2),
    ],
)
def test_free_gpus_count_what_shares_leave(records: list[Record | None], free: float) -> None:
    found = in_gpus(free_milli(node(), records))
    assert found == free
    assert isinstance(found, int) == (free == int(free))


def test_an_unhealthy_gpu_is_not_free_whether_it_is_held_or_not() -> None:
    assert free_milli(node(gpus=10), []) == 9_000
    assert free_milli(node(gpus=10), [held(9, milli=250)]) == 9_000


def test_nodes_are_in_the_pool_that_the_published_policy_deals_them_to() -> None:
    nodes = [node("n1"), node("n2", pool="own"), node("n3"), node("n4")]
    policy = Policy(pools={"gold": 0.5, "iron": 0.5}, share_all_below=1)
    published = msgspec.json.encode(PolicyInForce(policy, "", "", 0.0, "c1", 1, ""))
    dealt = {one.name: one.pool for one in in_pools(nodes, published)}
    assert dealt[NodeName("n2")] == "own"
    assert {dealt[NodeName(name)] for name in ("n1", "n3", "n4")} == {"gold", "iron"}


@pytest.mark.parametrize("published", [None, b"{}", b"not json"])
def test_without_a_policy_that_can_be_read_nodes_are_in_the_pool_that_they_name(published: bytes | None) -> None:
    nodes = [node("n1"), node("n2", pool="own")]
    assert in_pools(nodes, published) == nodes


def test_an_event_says_how_much_of_a_gpu_was_given() -> None:
    shares = (
        NodeShare(N1, Incarnation("1"), (0, 1)),
        NodeShare(NodeName("n2"), Incarnation("1"), (3,), gpu_milli=250),
        NodeShare(NodeName("n3"), Incarnation("1")),
    )
    phase = Reserved(1, Allocation(AllocationId("1.1"), shares), 1.0)
    assert where(phase.allocation) == "n1 gpu 0,1 + n2 0.25 of gpu 3 + n3"
