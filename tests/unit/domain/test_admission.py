"""What is refused at the door, and with which words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given

from shunter.domain.admission import check_fits_ever
from shunter.domain.ids import Incarnation, NodeName
from shunter.domain.job import Request
from shunter.domain.node import Gpu, Node
from shunter.errors import RequestTooLarge
from shunter.scheduling.fit import could_hold
from tests.strategies import BRIEF, fleets, requests


def node(gpus: int = 8, *, cpus: int = 64, memory_gib: float = 512) -> Node:
    devices = tuple(Gpu(index, "H100", f"gpu-{index}", 81_920) for index in range(gpus))
    return Node(NodeName("n1"), Incarnation("n1-1"), devices, cpus, int(memory_gib * 1024), joined_s=0.0)


CASES = [
    (
        Request(9),
        [node(8), node(8), node(8)],
        "gpus",
        "gpus: expected at most 8 per node, got 9; spread it with nodes: 3 (at most 8 GPUs per node here)",
    ),
    (
        Request(16),
        [node(8), node(8)],
        "gpus",
        "gpus: expected at most 8 per node, got 16; spread it with nodes: 2 (at most 8 GPUs per node here)",
    ),
    (
        Request(9),
        [node(8), node(1)],
        "gpus",
        "gpus: expected at most 8 per node, got 9; ask for at most 8 GPUs per node (9 in all)",
    ),
    (
        Request(17),
        [node(8), node(8)],
        "gpus",
        "gpus: expected at most 8 per node, got 17; ask for at most 8 GPUs per node (16 in all)",
    ),
    (
        Request(1),
        [node(0)],
        "gpus",
        "gpus: expected at most 0 per node, got 1; no node here has a GPU: ask for 0, or add a node that has",
    ),
    (
        Request(8, nodes=3),
        [node(8), node(8), node(4)],
        "nodes",
        "nodes: expected at most 2 with 8 GPUs each, got 3; ask for at most 2 nodes, or fewer GPUs per node",
    ),
    (
        Request(1, cpus=65),
        [node(cpus=64), node(cpus=32)],
        "cpus",
        "cpus: expected at most 64 per node, got 65; ask for at most 64 on each of 1 node(s)",
    ),
    (
        Request(1, nodes=2, cpus=64),
        [node(cpus=64), node(cpus=32)],
        "cpus",
        "cpus: expected at most 32 per node, got 64; ask for at most 32 on each of 2 node(s)",
    ),
    (
        Request(1, memory_mib=600 * 1024),
        [node(memory_gib=512)],
        "memory_gib",
        "memory_gib: expected at most 512 per node, got 600; ask for at most 512 on each of 1 node(s)",
    ),
    (
        Request(1, cpus=64, memory_mib=512 * 1024),
        [node(cpus=64, memory_gib=128), node(cpus=32, memory_gib=512)],
        "memory_gib",
        "memory_gib: expected at most 128 per node, got 512; ask for at most 128 on each of 1 node(s)",
    ),
]


@pytest.mark.parametrize(("request_", "nodes", "field", "text"), CASES, ids=[text[:60] for *_, text in CASES])
def test_a_refusal_names_the_field_the_limit_the_value_and_the_fix(
    request_: Request, nodes: list[Node], field: str, text: str
) -> None:
    with pytest.raises(RequestTooLarge) as raised:
        check_fits_ever(request_, nodes)
    assert str(raised.value) == text
    assert raised.value.field == field


def test_without_any_node_nothing_is_refused() -> None:
    check_fits_ever(Request(1_000, nodes=1_000), [])


def test_what_the_idle_cluster_holds_is_admitted() -> None:
    check_fits_ever(Request(8, nodes=2, cpus=64, memory_mib=512 * 1024), [node(), node(), node(1)])


def test_nodes_may_come_from_any_iterable() -> None:
    check_fits_ever(Request(8), iter([node()]))


@given(requests, fleets(all_healthy=True, min_size=1))
@BRIEF
def test_exactly_what_no_idle_cluster_could_hold_is_refused(request_: Request, nodes: tuple[Node, ...]) -> None:
    holders = sum(could_hold(node, request_) for node in nodes)
    try:
        check_fits_ever(request_, nodes)
    except RequestTooLarge:
        assert holders < request_.nodes
    else:
        assert holders >= request_.nodes


def test_the_memory_that_the_fix_names_is_admitted() -> None:
    odd = node(memory_gib=1007.5283)
    with pytest.raises(RequestTooLarge) as raised:
        check_fits_ever(Request(1, memory_mib=2_000_000), [odd])
    named = re.search(r"ask for at most ([\d.]+) on", str(raised.value))
    assert named
    check_fits_ever(Request(1, memory_mib=int(float(named[1]) * 1024)), [odd])


@given(requests, fleets(all_healthy=True, min_size=1))
@BRIEF
def test_the_number_of_nodes_that_the_fix_names_is_admitted(request_: Request, nodes: tuple[Node, ...]) -> None:
    wide = Request(request_.gpus_per_node * 4)
    try:
        check_fits_ever(wide, nodes)
    except RequestTooLarge as error:
        spread = re.search(r"spread it with nodes: (\d+)", str(error))
        if spread:
            count = int(spread[1])
            assert wide.gpus % count == 0
            check_fits_ever(Request(wide.gpus // count, count), nodes)
