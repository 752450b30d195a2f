"""Shares of a GPU, and jobs that are only for some of the nodes: from what a person asks to the process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shunter import __version__
from shunter.agent.traits import Traits
from shunter.errors import RequestTooLarge
from shunter.local.cluster import NodePlan
from tests.e2e.yard import CPUS, Yard, yard_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

TELL = """
echo "$SHUNTER_NODE $SHUNTER_GPUS $CUDA_VISIBLE_DEVICES ${SHUNTER_GPU_MILLI:-whole}" \\
  "${CUDA_MPS_ACTIVE_THREAD_PERCENTAGE:-all}" >>"$FILES/told"
until [ -e "$FILES/go" ]; do sleep 0.05; done
"""
"""A job that writes down what it was given, and ends when all may."""


@pytest.fixture(scope="module")
def two_kinds() -> Iterator[Yard]:
    """Two nodes that differ in everything that a request can name."""
    first = Traits("gold", "r1", (("disk", "nvme"), ("zone", "a")))
    second = Traits("iron", "r2", (("zone", "b"),))
    with yard_of(
        NodePlan("n1", "simulated:2:A100", CPUS, first), NodePlan("n2", "simulated:4/2:H100", CPUS, second)
    ) as yard:
        yield yard


def tell(yard: Yard, **fields: object) -> int:
    return yard.submit(TELL, env={"FILES": str(yard.files)}, **fields)


def test_an_option_of_up_wins_over_the_environment_in_its_node_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """`up --pool ''` with SHUNTER_POOL set: its node must not find the variable again."""
    for name, value in (("POOL", "gold"), ("RACK", "r1"), ("LABELS", "zone=a")):
        monkeypatch.setenv(f"SHUNTER_{name}", value)
    with yard_of(NodePlan("n1", "simulated:1", CPUS, Traits(rack="r2"))) as yard:
        [view] = yard.client.nodes()
        assert (view.node.pool, view.node.rack, view.node.labels) == ("", "r2", {})


def test_four_quarters_run_at_once_on_one_gpu_and_the_fifth_waits() -> None:
    with yard_of("n1=simulated:1") as yard:
        quarters = [tell(yard, gpus=0.25) for _ in range(4)]
        assert yard.wait_for_lines("told", 4) == ["n1 0 0 250 25"] * 4
        fifth, whole = tell(yard, gpus=0.25), tell(yard, gpus=1)
        yard.in_state(quarters[0], "running")
        assert {yard.client.job(id).state for id in quarters} == {"running"}
        assert {yard.client.job(id).state for id in (fifth, whole)} == {"queued"}
        assert yard.client.job(fifth).gpus == 0.25
        [node] = yard.client.nodes()
        assert (node.free_gpus, len(node.jobs)) == (0, 4)
        yard.client.cancel(quarters[0])
        assert yard.wait_for_lines("told", 5)[4] == "n1 0 0 250 25"
        (yard.files / "go").touch()
        views = yard.ended(*quarters, fifth, whole)
        assert [view.state for view in views] == ["cancelled", *["succeeded"] * 5]
        assert yard.lines("told")[5] == "n1 0 0 whole all"


def test_what_is_left_of_a_gpu_is_counted(two_kinds: Yard) -> None:
    two_kinds.new_files()
    share = tell(two_kinds, gpus=0.25, gpu_model="A100")
    two_kinds.wait_for_lines("told")
    first, second = two_kinds.client.nodes()
    assert (first.free_gpus, second.free_gpus) == (1.75, 4)
    assert two_kinds.client.cluster().free_gpus == 5.75
    placed = [event.text for event in two_kinds.client.events(jobs=[share]) if event.kind == "placed"]
    assert placed[0].startswith("placed on n1 0.25 of gpu ")
    (two_kinds.files / "go").touch()
    two_kinds.ended(share)


@pytest.mark.parametrize(
    ("fields", "node"),
    [
        ({"gpu_model": "H100"}, "n2"),
        ({"gpu_model": "a100|B200"}, "n1"),
        ({"labels": {"zone": "b"}}, "n2"),
        ({"labels": {"zone": "a", "disk": "nvme"}}, "n1"),
        ({"avoid": ["n1"]}, "n2"),
        ({"avoid": "n2,n3"}, "n1"),
        ({"pool": "iron"}, "n2"),
        ({"within": "island", "gpus": 2, "gpu_model": "H100", "labels": {"zone": "b"}, "avoid": ["n1"]}, "n2"),
    ],
)
def test_a_job_lands_on_the_node_that_it_asked_for(two_kinds: Yard, fields: dict[str, object], node: str) -> None:
    """Three at a time: by chance they would not all land there."""
    ids = [two_kinds.submit(["true"], **fields) for _ in range(3)]
    assert [view.nodes for view in two_kinds.ended(*ids)] == [(node,)] * 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gpu_model": "B200"}, "gpu_model: expected one of A100, H100 (what the nodes here have), got B200"),
        ({"labels": {"zone": "c"}}, "labels: no node has zone=c"),
        ({"pool": "lead"}, "pool: expected one of gold, iron (what the nodes here are in), got lead"),
        ({"avoid": ["n1", "n2"]}, "avoid: expected some node to be left, got n1, n2"),
        ({"within": "island", "gpus": 4}, "gpus: expected at most 2 per island, got 4"),
        ({"avoid": "n1,n2,n9"}, "avoid: expected some node to be left, got n1, n2, n9"),
        ({"within": "rack", "gpus": 2, "nodes": 2}, "nodes: expected at most 1 with 1 GPUs each in one rack, got 2"),
    ],
)
def test_what_no_node_here_could_give_is_refused_at_once(
    two_kinds: Yard, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(RequestTooLarge) as caught:
        two_kinds.submit(["true"], **fields)
    assert caught.value.message == message
    assert caught.value.field == message.partition(":")[0]


def test_a_node_says_what_it_was_started_with(two_kinds: Yard) -> None:
    first, second = two_kinds.client.nodes()
    assert (first.node.pool, first.node.rack, first.node.labels) == ("gold", "r1", {"disk": "nvme", "zone": "a"})
    assert (first.pool, second.pool) == ("gold", "iron")
    assert [gpu.island for gpu in second.node.gpus] == [0, 0, 1, 1]
    assert second.node.source == "simulated:4/2:H100"
    joined = [event.text for event in two_kinds.client.events() if event.kind == "node_joined"]
    assert any(text.endswith(f"cores, pool gold, rack r1, version {__version__}") for text in joined)
