"""Which GPU models a person means, and which nodes a request leaves."""

from __future__ import annotations

import pytest

from shunter.domain.ids import Incarnation, NodeName
from shunter.domain.job import Request
from shunter.domain.narrow import allowed, is_model
from shunter.domain.node import Node

H100 = "NVIDIA H100 80GB HBM3"
A100 = "NVIDIA A100-SXM4-40GB"


@pytest.mark.parametrize(
    ("wanted", "model", "is_one"),
    [
        ((), H100, True),
        (("H100",), H100, True),
        (("h100",), H100, True),
        (("H100 80GB",), H100, True),
        ((H100,), H100, True),
        (("A100-SXM4",), A100, True),
        (("A100", "H100"), A100, True),
        (("A10",), A100, False),
        (("H100 40GB",), H100, False),
        (("B200",), H100, False),
        (("4090",), "NVIDIA GeForce RTX 4090", True),
        (("RTX 4090",), "NVIDIA GeForce RTX 4090 D", True),
        (("Simulated-80G",), "Simulated-80G", True),
        (("-",), H100, False),
    ],
)
def test_a_model_is_meant_when_all_its_words_are_there(wanted: tuple[str, ...], model: str, is_one: bool) -> None:
    assert is_model(wanted, model) is is_one


@pytest.mark.parametrize(
    ("request_", "is_allowed"),
    [
        (Request(), True),
        (Request(pool="gold"), True),
        (Request(pool="iron"), False),
        (Request(labels=(("zone", "a"),)), True),
        (Request(labels=(("disk", "nvme"), ("zone", "b"))), False),
        (Request(labels=(("rack", "a"),)), False),
        (Request(avoid=(NodeName("n2"),)), True),
        (Request(avoid=(NodeName("n1"), NodeName("n2"))), False),
    ],
)
def test_pool_labels_and_nodes_to_avoid_narrow_the_nodes(request_: Request, is_allowed: bool) -> None:
    labels = {"zone": "a", "disk": "nvme"}
    node = Node(NodeName("n1"), Incarnation("1"), (), 8, 1_024, 0.0, pool="gold", labels=labels)
    assert allowed(node, request_) is is_allowed
