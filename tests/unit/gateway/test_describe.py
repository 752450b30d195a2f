"""What events of nodes say."""

from __future__ import annotations

import pytest

from shunter.domain.ids import Incarnation, NodeName
from shunter.domain.node import Gpu, Node
from shunter.gateway.describe import describe
from shunter.store import codec
from shunter.store.codec import Entry

ONE = Node(NodeName("n1"), Incarnation("7"), (Gpu(0, "H100", "u0", 81_920),), 1, 1_024, 1.0, source="nvml")
TWO = Node(NodeName("n1"), Incarnation("7"), ONE.gpus * 2, 16, 1_024, 1.0, source="nvml", rack="r7", version="0.2.0")


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        ("node_joined", codec.write_node(ONE), "joined with 1 GPU (nvml), 1 core"),
        ("node_joined", codec.write_node(TWO), "joined with 2 GPUs (nvml), 16 cores, rack r7, version 0.2.0"),
        ("node_left", b"", "left"),
        ("node_cordoned", b"fan", "cordoned: fan"),
        ("node_uncordoned", b"", "uncordoned"),
    ],
)
def test_events_of_nodes_in_words(kind: str, value: bytes, says: str) -> None:
    assert describe(Entry("1-0", kind, None, "n1", value, b"", b"")) == says
