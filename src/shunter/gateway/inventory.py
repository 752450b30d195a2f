"""What the gateway works out about nodes: the pool that each is in, and what is free on it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shunter.domain.ids import NodeName
from shunter.domain.job import WHOLE_GPU
from shunter.domain.node import Node
from shunter.domain.phase import HOLDS_GPUS
from shunter.runtime.policy_report import PolicyInForce
from shunter.scheduling.policy import Policy
from shunter.scheduling.pools import assign
from shunter.store.codec import Record

_decode = msgspec.json.Decoder(PolicyInForce).decode


def pools_of(nodes: Sequence[Node], published: bytes | None) -> dict[NodeName, str]:
    """Return the pool of each node under the *published* policy; without one that can be read, what it names itself."""
    try:
        policy = Policy() if published is None else _decode(published).policy
    except msgspec.DecodeError:  # by a coordinator of another version
        policy = Policy()
    return assign(nodes, policy)


def in_pools(nodes: Sequence[Node], published: bytes | None) -> list[Node]:
    """Return *nodes*, each in the pool that it is dealt to: as the leader sees them."""
    pools = pools_of(nodes, published)
    return [msgspec.structs.replace(node, pool=pools[node.name]) for node in nodes]


def free_milli(node: Node, records: Sequence[Record | None]) -> int:
    """Return how many thousandths of *node*'s healthy devices none of *records* holds."""
    left = {gpu.index: WHOLE_GPU for gpu in node.gpus if gpu.healthy}
    for record in records:
        if record is None or not isinstance(record.phase, HOLDS_GPUS):
            continue
        for share in record.phase.allocation.shares:
            for gpu in share.gpus if share.node == node.name else ():
                if gpu in left:
                    left[gpu] -= share.gpu_milli
    return sum(left.values())
