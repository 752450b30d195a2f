"""Which pool a node belongs to, and which pools a class may use.

Pools are labels over one fleet, never partitions that idle: a class runs in its home pool (and on nodes that belong to
none), and where the policy lets it, borrows idle GPUs of others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shunter.domain.ids import NodeName
from shunter.domain.job import Priority
from shunter.domain.node import Node
from shunter.scheduling.policy import Policy

_CLASSES = tuple(Priority)


def assign(nodes: Iterable[Node], policy: Policy) -> dict[NodeName, str]:
    """Return the pool of each node: its own, else one that the policy's shares deal it.

    Nodes without a pool are dealt in the order of their names, each to the pool that lacks most of its share, so that a
    new last node changes nobody's pool. Below `share_all_below` nodes there are no pools but those that nodes name.
    """
    pools: dict[NodeName, str] = {}
    shares = {name: share for name, share in policy.pools.items() if share > 0}
    if (left := 1.0 - sum(shares.values())) > 1e-9 and shares:
        shares[""] = left  # what the shares leave over stays nobody's
    dealt = dict.fromkeys(shares, 0)
    unnamed = []
    for node in sorted(nodes, key=lambda node: node.name):
        pools[node.name] = node.pool
        if not node.pool:
            unnamed.append(node.name)
        elif node.pool in dealt:
            dealt[node.pool] += 1
    if dealt and len(pools) >= policy.share_all_below:
        count = sum(dealt.values())
        for name in unnamed:
            count += 1
            neediest = max(dealt, key=lambda pool: shares[pool] * count - dealt[pool])  # first of equals
            dealt[neediest] += 1
            pools[name] = neediest
    return pools


def routes(rank: int, policy: Policy, pools: Mapping[str, int]) -> tuple[frozenset[str], ...]:
    """Return the pools that class *rank* may use, best first: its home and what is nobody's, then what it borrows.

    *pools* counts the nodes of each pool. Where the policy routes nothing, or too few nodes are there to tell classes
    apart, all pools are one. A home pool without any node is no home: such a class uses every pool, strict or not.
    """
    everything = frozenset(pools)
    route = policy.classes.get(_CLASSES[rank])
    if route is None or sum(pools.values()) < policy.share_all_below or not pools.get(route.home):
        return (everything,)
    # A pool that the policy does not name is there for those who ask for it by name.
    tiers = [frozenset({"", route.home}) & everything]
    if not policy.strict:
        tiers += [frozenset({pool}) for pool in route.borrow if pool in everything]
    return tuple(tiers)
