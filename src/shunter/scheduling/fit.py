"""Where an attempt fits: whole GPUs, best fit, all members or none.

Best fit: the node with the fewest free GPUs that holds it, ties by node name, so that wide jobs keep finding whole
nodes. A gang takes one share on each of *nodes* different nodes.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from shunter.domain.ids import NodeName
from shunter.domain.job import Request
from shunter.domain.node import Node
from shunter.domain.phase import NodeShare
from shunter.scheduling.view import Free, View


class FreeNow:
    """What is free in the course of a pass: the view, minus what the pass has given away. The view is not changed."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._changed: dict[NodeName, Free] = {}
        self.nodes: tuple[Node, ...] = tuple(view.schedulable())

    def on(self, name: NodeName) -> Free:
        return self._changed.get(name) or self._view.free[name]

    def take(self, shares: Iterable[NodeShare]) -> None:
        for share in shares:
            if share.node not in self._changed:
                self._changed[share.node] = self._view.free[share.node].copy()
            self._changed[share.node].take(share)


def place(
    request: Request, free: FreeNow, avoid: frozenset[NodeName], barred: Container[NodeName] = ()
) -> tuple[NodeShare, ...] | None:
    """Return the shares for *request* in rank order, or None when its members do not all fit now outside *barred*."""
    fitting = [
        node
        for node in candidates(request, free, avoid)
        if node.name not in barred and free.on(node.name).fits(request)
    ]
    if len(fitting) < request.nodes:
        return None
    fitting.sort(key=lambda node: (len(free.on(node.name).gpus), node.name))
    return tuple(_share(node, request, free.on(node.name)) for node in fitting[: request.nodes])


def candidates(request: Request, free: FreeNow, avoid: frozenset[NodeName]) -> Sequence[Node]:
    """Return the nodes that may be given to *request*, whatever is free on them.

    A node in *avoid* (it just failed this job) is used only when the other nodes, even idle, could not hold the job.
    """
    if not avoid:
        return free.nodes
    others = [node for node in free.nodes if node.name not in avoid]
    return others if sum(could_hold(node, request) for node in others) >= request.nodes else free.nodes


def could_hold(node: Node, request: Request) -> bool:
    """Return whether an idle *node* holds one member of *request*."""
    return (
        node.usable_gpus >= request.gpus_per_node
        and node.cpus >= request.cpus
        and node.memory_mib >= request.memory_mib
    )


def _share(node: Node, request: Request, free: Free) -> NodeShare:
    gpus = tuple(sorted(free.gpus)[: request.gpus_per_node])
    return NodeShare(node.name, node.incarnation, gpus, request.cpus, request.memory_mib)
