"""What an idle fleet could hold at all. As in `domain/admission.py`, but by kind of node and not node by node: a trace
asks for every distinct request of a million jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec.structs import replace

from shunter.domain.job import Request, Within
from shunter.domain.node import Node
from shunter.scheduling.shelves import Kind, kind_of, tightly
from shunter.sim.files import listed

Kinds = list[tuple[Kind, int]]
"""Kinds of nodes that take work, with how many there are of each."""


class Capacity:
    """*pools* and *models* are the names that nodes have, sorted. Cordoned nodes do not count."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = [node for node in nodes if not node.cordoned]
        self._kinds = _kinds(self._nodes)
        self.pools = sorted({kind.pool for kind, _ in self._kinds} - {""})
        self.models = sorted({model for kind, _ in self._kinds for model in kind.models} - {""})

    def widest(self, request: Request) -> int:
        """Return the most GPUs that one node which *request* allows has."""
        return max((kind.gpus for kind, _ in self._kinds if kind.admits(request)), default=0)

    def problem(self, request: Request) -> str:
        """Return why *request* could never be placed, "" if it could: the field, the limit and the value."""
        kinds = self._kinds
        if request.avoid:
            kinds = _kinds([node for node in self._nodes if node.name not in request.avoid])
        kinds = [(kind, count) for kind, count in kinds if kind.admits(request)]
        bare = replace(request, cpus=0, memory_mib=0, within=Within.ANYWHERE)
        if not kinds or not _hold(kinds, bare):
            return self._too_wide(bare, kinds)
        with_cpus = replace(bare, cpus=request.cpus)
        if not _hold(kinds, with_cpus):
            most = max((k.cpus for k, _ in kinds if _hold(kinds, replace(bare, cpus=k.cpus))), default=0)
            return f"cpus: expected at most {most} per node{_of(request)}, got {request.cpus}"
        with_memory = replace(with_cpus, memory_mib=request.memory_mib)
        if not _hold(kinds, with_memory):
            offers = (k.memory_mib for k, _ in kinds if _hold(kinds, replace(with_cpus, memory_mib=k.memory_mib)))
            limit, wanted = max(offers, default=0) / 1024, request.memory_mib / 1024
            return f"mem_gib: expected at most {limit:.12g} per node{_of(request)}, got {wanted:.12g}"
        if not _hold(kinds, request):
            return f"within: no {request.within} holds {request.gpus} GPUs on {request.nodes} node(s){_of(request)}"
        return ""

    def _too_wide(self, request: Request, kinds: Kinds) -> str:
        if request.pool and request.pool not in self.pools:
            return unknown_pool("pool", request.pool, self.pools)
        models = {model for kind, _ in self._kinds if request.pool in ("", kind.pool) for model in kind.models}
        if request.models and models.isdisjoint(request.models):
            there = f" in pool {request.pool:.60}" if request.pool else ""
            return f"gpu_model: expected one of {listed(sorted(models))}{there}, got {'|'.join(request.models)!r:.60}"
        if not kinds:
            return f"labels, avoid: no node{_of(request)} is left"
        full = sum(count for kind, count in kinds if kind.could_hold(request, request.gpus_per_node))
        if not request.gpus:
            return f"nodes: expected at most {full}{_of(request)}, got {request.nodes}"
        if not full:
            most = max(kind.gpus for kind, _ in kinds)
            return f"gpus: expected at most {most} per node{_of(request)}, got {request.gpus_per_node}"
        smaller = (kind.gpus for kind, _ in kinds if kind.gpus < request.gpus_per_node)
        most = full * request.gpus_per_node + max(smaller, default=0)
        return f"gpus: expected at most {most}{_of(request)}, got {request.gpus}"


def unknown_pool(field: str, pool: str, pools: Sequence[str]) -> str:
    return f"{field}: unknown pool, expected one of {listed(pools)}, got {pool!r:.60}"


def _kinds(nodes: Sequence[Node]) -> Kinds:
    return list(Counter(kind_of(node, node.pool) for node in nodes).items())


def _hold(kinds: Kinds, request: Request) -> bool:
    """Return whether different nodes of *kinds*, idle, hold all members of *request*."""
    if not tightly(request):
        return _hold_anywhere(kinds, request)
    racks = {kind.rack for kind, _ in kinds}
    return any(_hold_anywhere([(k, n) for k, n in kinds if k.rack == rack], request) for rack in racks)


def _hold_anywhere(kinds: Kinds, request: Request) -> bool:
    full = sum(count for kind, count in kinds if kind.could_hold(request, request.gpus_per_node))
    last = sum(count for kind, count in kinds if kind.could_hold(request, request.gpus_of_last))
    # One of the two sets of nodes contains the other, so this is all that members ask of them.
    return full >= request.nodes - 1 and last >= 1 and max(full, last) >= request.nodes


def _of(request: Request) -> str:
    """Return the words for the nodes that *request* allows."""
    pool = f" in pool {request.pool:.60}" if request.pool else ""
    return pool + (f" with {listed(request.models)}" if request.models else "")
