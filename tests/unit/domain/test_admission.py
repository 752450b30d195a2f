"""What is refused at the door, and with which words."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs

from shunter.domain.admission import check_fits_ever
from shunter.domain.ids import Incarnation, NodeName
from shunter.domain.job import Request, Within
from shunter.domain.node import Gpu, Node
from shunter.errors import RequestTooLarge
from shunter.scheduling.shelves import kind_of
from tests.strategies import BRIEF, fleets, requests


def node(
    gpus: int = 8,
    *,
    name: str = "n1",
    cpus: int = 64,
    memory_gib: float = 512,
    model: str = "H100",
    island: int = 8,
    **told: Any,
) -> Node:
    devices = tuple(Gpu(index, model, f"gpu-{index}", 81_920, island=index // island) for index in range(gpus))
    return Node(NodeName(name), Incarnation("n1-1"), devices, cpus, int(memory_gib * 1024), joined_s=0.0, **told)


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


GOLD: Final = node(name="n1", pool="gold", labels={"zone": "a", "disk": "nvme"})
PLAIN: Final = node(4, name="n2", model="A100", labels={"zone": "c"})
ISLANDS: Final = node(8, name="n3", island=4)
NARROWED = [
    (
        Request(models=("B200",)),
        [GOLD, PLAIN],
        "gpu_model: expected one of A100, H100 (what the nodes here have), got B200; "
        "ask for one of them, or leave gpu_model out",
    ),
    (
        Request(models=("B100", "B200"), pool="gold"),
        [GOLD, PLAIN],
        "gpu_model: expected one of H100 (what the nodes that are left have), got B100 or B200; "
        "ask for one of them, or leave gpu_model out",
    ),
    (
        Request(0, cpus=1, models=("A100",), pool="gold"),
        [GOLD, PLAIN],
        "gpu_model: expected one of H100 (what the nodes that are left have), got A100; "
        "ask for one of them, or leave gpu_model out",
    ),
    (
        Request(0, nodes=2, models=("A100",)),
        [GOLD, PLAIN],
        "nodes: expected at most 1 with 0 GPUs each (A100), got 2; ask for at most 1 nodes, or fewer GPUs per node",
    ),
    (
        Request(pool="iron"),
        [GOLD, PLAIN],
        "pool: expected one of gold (what the nodes here are in), got iron; ask for one of them, or leave pool out",
    ),
    (
        Request(pool="iron"),
        [PLAIN],
        "pool: expected none (no node here is in a pool), got iron; leave pool out, or start a node with --pool",
    ),
    (
        Request(labels=(("zone", "b"),)),
        [GOLD, PLAIN],
        "labels: no node has zone=b; the nodes have zone=a, c",
    ),
    (
        Request(labels=(("rank", "1"),), pool="gold"),
        [GOLD, PLAIN],
        "labels: no node in pool gold has rank=1; no node in pool gold has a label rank",
    ),
    (
        Request(labels=(("disk", "nvme"), ("zone", "c"))),
        [GOLD, PLAIN],
        "labels: no node has disk=nvme and zone=c together; ask for fewer of them",
    ),
    (
        Request(avoid=(NodeName("n1"), NodeName("n2"))),
        [GOLD, PLAIN],
        "avoid: expected some node to be left, got n1, n2; leave one of them out",
    ),
    (
        Request(8, models=("A100",), labels=(("zone", "c"),), avoid=(NodeName("n1"),)),
        [GOLD, PLAIN],
        "gpus: expected at most 4 per node (zone=c, A100, without n1), got 8; "
        "ask for at most 4 GPUs per node (4 in all)",
    ),
    (
        Request(8, within=Within.ISLAND),
        [ISLANDS],
        "gpus: expected at most 4 per island, got 8; "
        "ask for at most 4, the largest island of GPUs joined by NVLink here",
    ),
    (
        Request(1, gpu_milli=250),
        [node(0)],
        "gpus: expected at most 0 per node, got 0.25; no node here has a GPU: ask for 0, or add a node that has",
    ),
    (
        Request(8, nodes=2, within=Within.RACK),
        [node(rack="r1"), node(4, rack="r1"), node(rack="r2")],
        "nodes: expected at most 1 with 8 GPUs each in one rack, got 2; "
        "ask for at most 1 nodes, or fewer GPUs per node, or leave within out",
    ),
    (
        Request(4, nodes=3, last_gpus=2),
        [node(4), node(2), node(2)],
        "nodes: expected at most 1 with 4 GPUs each, got 2; ask for at most 1 nodes, or fewer GPUs per node",
    ),
    (
        Request(4, nodes=3, last_gpus=2),
        [node(4), node(4), node(1)],
        "nodes: expected at most 2 with 2 GPUs each, got 3; ask for at most 2 nodes, or fewer GPUs per node",
    ),
    (
        Request(1, cpus=65, nodes=2, within=Within.RACK),
        [node(cpus=80, rack="r1"), node(cpus=80, rack="r2"), node(cpus=64, rack="r2")],
        "cpus: expected at most 64 per node, got 65; ask for at most 64 on each of 2 node(s)",
    ),
]


@pytest.mark.parametrize(("request_", "nodes", "text"), NARROWED, ids=[text[:60] for *_, text in NARROWED])
def test_a_refusal_names_what_narrowed_the_nodes(request_: Request, nodes: list[Node], text: str) -> None:
    with pytest.raises(RequestTooLarge) as raised:
        check_fits_ever(request_, nodes)
    assert str(raised.value) == text
    assert raised.value.field == text.partition(":")[0]


@pytest.mark.parametrize(
    ("request_", "nodes"),
    [
        (Request(4, models=("a100",)), [GOLD, PLAIN]),
        (Request(8, models=("A100", "H100")), [GOLD, PLAIN]),
        (Request(8, pool="gold", labels=(("disk", "nvme"), ("zone", "a"))), [GOLD, PLAIN]),
        (Request(8, avoid=(NodeName("n2"), NodeName("never seen"))), [GOLD, PLAIN]),
        (Request(4, within=Within.ISLAND), [ISLANDS]),
        (Request(0, cpus=1, within=Within.ISLAND), [node(0)]),
        (Request(0, nodes=2, models=("A100",)), [PLAIN, node(0, name="n4")]),
        (Request(1, gpu_milli=1), [node(1)]),
        (
            Request(8, nodes=2, within=Within.RACK),
            [node(rack="r1"), node(4, rack="r1"), node(rack="r2"), node(rack="r2")],
        ),
        (Request(8, nodes=2, within=Within.RACK), [node(), node()]),
        (Request(8, within=Within.RACK), [node(1, rack="r1"), node(1, rack="r1"), node(rack="r2")]),
        (Request(4, nodes=3, last_gpus=2), [node(4), node(2), node(5)]),
        (Request(3, nodes=3, last_gpus=4), [node(4), node(3), node(3)]),
    ],
)
def test_what_some_of_the_nodes_hold_is_admitted(request_: Request, nodes: list[Node]) -> None:
    check_fits_ever(request_, nodes)


def test_a_node_of_mixed_models_is_offered_to_those_who_take_any_of_them() -> None:
    """A job is not told which of its devices is which."""
    mixed = node()
    mixed = structs.replace(mixed, gpus=(*mixed.gpus[:4], *node(8, model="A100").gpus[4:]))
    check_fits_ever(Request(8, models=("A100", "H100")), [mixed])
    with pytest.raises(RequestTooLarge, match=r"gpu_model: expected one of A100\|H100 \(what"):
        check_fits_ever(Request(1, models=("H100",)), [mixed])


def test_long_lists_are_cut() -> None:
    pools = [node(name=f"n{number}", pool=f"p{number:02}") for number in range(30)]
    with pytest.raises(RequestTooLarge, match="p09 and 20 more"):
        check_fits_ever(Request(pool="x"), pools)


def test_without_any_node_nothing_is_refused() -> None:
    check_fits_ever(Request(1_000, nodes=1_000), [])
    check_fits_ever(Request(models=("B200",), labels=(("zone", "b"),), pool="gold"), [])


def test_what_the_idle_cluster_holds_is_admitted() -> None:
    check_fits_ever(Request(8, nodes=2, cpus=64, memory_mib=512 * 1024), [node(), node(), node(1)])


def test_nodes_may_come_from_any_iterable() -> None:
    check_fits_ever(Request(8), iter([node()]))


@st.composite
def told_fleets(draw: st.DrawFn) -> list[Node]:
    """Healthy nodes of several models, islands, pools, racks and labels."""
    told = []
    for one in draw(fleets(all_healthy=True, min_size=1)):
        model, island = draw(st.sampled_from(["H100", "H100", "A100"])), draw(st.sampled_from([8, 8, 4, 1]))
        told.append(
            structs.replace(
                one,
                gpus=tuple(structs.replace(gpu, model=model, island=gpu.index // island) for gpu in one.gpus),
                pool=draw(st.sampled_from(["", "gold"])),
                rack=draw(st.sampled_from(["r1", "r1", "r2", ""])),
                labels=draw(st.sampled_from([{}, {"zone": "a"}, {"zone": "a", "disk": "nvme"}])),
            )
        )
    return told


def rarely(value: object) -> st.SearchStrategy[Any]:
    empty: object = type(value)()
    return st.sampled_from([empty, empty, empty, value])


narrow_requests = st.builds(
    lambda request, last, milli, **narrowed: structs.replace(
        request,
        last_gpus=1 if last and request.gpus_per_node > 1 else 0,
        gpu_milli=milli if request.gpus == 1 else 1_000,
        **narrowed,
    ),
    requests,
    last=st.booleans(),
    milli=st.sampled_from([1_000, 250]),
    models=rarely(("H100",)) | rarely(("A100", "H100")),
    labels=rarely((("zone", "a"),)) | rarely((("disk", "nvme"), ("zone", "a"))),
    avoid=rarely(("n1",)) | rarely(("n1", "n2")),
    pool=rarely("gold"),
    within=st.sampled_from([Within.ANYWHERE, Within.ANYWHERE, Within.RACK, Within.ISLAND]),
)


def an_idle_cluster_holds(request: Request, nodes: list[Node]) -> bool:
    """As the scheduler sees it."""
    racks = {one.rack for one in nodes} if request.within is Within.RACK else {None}
    for rack in racks:
        left = [one for one in nodes if rack in (None, one.rack) and one.name not in request.avoid]
        kinds = [kind for kind in (kind_of(one, one.pool) for one in left) if kind.admits(request)]
        full = sum(kind.could_hold(request, request.gpus_per_node) for kind in kinds)
        last = sum(kind.could_hold(request, request.gpus_of_last) for kind in kinds)
        if full >= request.nodes - bool(request.last_gpus) and last >= request.nodes:
            return True
    return False


@given(narrow_requests, told_fleets())
@example(Request(0, models=("H100",), pool="gold"), [node(model="A100", pool="gold")])
@example(Request(0, models=("H100",), pool="gold"), [node(0, pool="gold")])
@BRIEF
def test_exactly_what_no_idle_cluster_could_hold_is_refused(request_: Request, nodes: list[Node]) -> None:
    try:
        check_fits_ever(request_, nodes)
    except RequestTooLarge as error:
        assert not an_idle_cluster_holds(request_, nodes), str(error)
        assert error.field and error.fix
    else:
        assert an_idle_cluster_holds(request_, nodes)


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
