"""What is refused at the door: requests that no state of the cluster could ever satisfy."""

from __future__ import annotations

import math
from collections.abc import Iterable

from shunter.domain.job import Request
from shunter.domain.node import Node
from shunter.errors import RequestTooLarge


def check_fits_ever(request: Request, nodes: Iterable[Node]) -> None:
    """Raise RequestTooLarge, with the maximum and the fix, if all of *nodes* idle could not hold *request*.

    With no nodes at all nothing is refused: they may yet join, and the job waits with that reason.
    """
    nodes = list(nodes)
    if not nodes:
        return
    biggest = max(len(node.gpus) for node in nodes)
    total = sum(len(node.gpus) for node in nodes)
    if request.gpus_per_node > biggest:
        fix = f"ask for at most {biggest} GPUs per node ({total} in all)"
        if not biggest:
            fix = "no node here has a GPU: ask for 0, or add a node that has"
        elif (spread := _spread(request.gpus, nodes)) is not None:
            fix = f"spread it with nodes: {spread} (at most {biggest} GPUs per node here)"
        raise RequestTooLarge(
            f"gpus: expected at most {biggest} per node, got {request.gpus_per_node}", field="gpus", fix=fix
        )
    _check_nodes(request, nodes)


def _spread(gpus: int, nodes: list[Node]) -> int | None:
    """Return the fewest of *nodes* that hold *gpus* in equal parts; None if no number does."""
    offers = sorted((len(node.gpus) for node in nodes), reverse=True)
    return next((n for n, least in enumerate(offers, 1) if gpus % n == 0 and gpus <= least * n), None)


def _check_nodes(request: Request, nodes: list[Node]) -> None:
    able = [node for node in nodes if len(node.gpus) >= request.gpus_per_node]
    if len(able) < request.nodes:
        raise RequestTooLarge(
            f"nodes: expected at most {len(able)} with {request.gpus_per_node} GPUs each, got {request.nodes}",
            field="nodes",
            fix=f"ask for at most {len(able)} nodes, or fewer GPUs per node",
        )
    _check_offers("cpus", request.cpus, [node.cpus for node in able], request.nodes)
    # One node must have both: memory on nodes that lack the cores is of no use.
    able = [node for node in able if node.cpus >= request.cpus]
    _check_offers("memory_gib", request.memory_mib / 1024, [node.memory_mib / 1024 for node in able], request.nodes)


def _check_offers(field: str, wanted: float, offers: list[float], nodes: int) -> None:
    """Raise RequestTooLarge unless *nodes* of *offers* reach *wanted*; it names the most that so many reach."""
    limit = sorted(offers)[-nodes]
    if wanted > limit:
        limit = math.floor(limit * 100) / 100  # rounded up, the fix would be refused again
        raise RequestTooLarge(
            f"{field}: expected at most {limit:.12g} per node, got {wanted:.12g}",
            field=field,
            fix=f"ask for at most {limit:.12g} on each of {nodes} node(s)",
        )
