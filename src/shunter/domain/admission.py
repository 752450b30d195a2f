"""What is refused at the door: requests that no state of the cluster could ever satisfy."""

from __future__ import annotations

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
        fix = f"at most {biggest} GPUs per node here"
        if biggest and request.gpus <= total:
            wanted = -(-request.gpus // biggest)
            fix = f"spread it with nodes: {wanted} (at most {biggest} GPUs per node here)"
        elif biggest:
            fix = f"ask for at most {biggest} GPUs per node ({total} in all)"
        raise RequestTooLarge(
            f"gpus: expected at most {biggest} per node, got {request.gpus_per_node}", field="gpus", fix=fix
        )
    _check_nodes(request, nodes)


def _check_nodes(request: Request, nodes: list[Node]) -> None:
    with_gpus = [node for node in nodes if len(node.gpus) >= request.gpus_per_node]
    if len(with_gpus) < request.nodes:
        raise RequestTooLarge(
            f"nodes: expected at most {len(with_gpus)} with {request.gpus_per_node} GPUs each, got {request.nodes}",
            field="nodes",
            fix=f"ask for at most {len(with_gpus)} nodes, or fewer GPUs per node",
        )
    for field, wanted, offers in (
        ("cpus", request.cpus, [node.cpus for node in with_gpus]),
        ("memory_gib", request.memory_mib / 1024, [node.memory_mib / 1024 for node in with_gpus]),
    ):
        if sum(offer >= wanted for offer in offers) < request.nodes:
            raise RequestTooLarge(
                f"{field}: expected at most {max(offers):g} per node, got {wanted:g}",
                field=field,
                fix=f"ask for at most {sorted(offers)[-request.nodes]:g} on each of {request.nodes} node(s)",
            )
