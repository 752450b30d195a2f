"""Nodes that are kept for a job that waits for them, so that wide jobs are not starved by narrow ones.

The first job of each class that does not fit earmarks the nodes that will soonest have room for it: those with the most
free GPUs, ties by name (a choice that lasts, for nobody else fills them up). Lower classes may not start there; its own
class may, until the job has waited longer than `overtake_s`. Everywhere else work goes on.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from shunter.domain.ids import JobId, NodeName
from shunter.domain.node import Node
from shunter.scheduling.fit import FreeNow, could_hold
from shunter.scheduling.view import Group


class Earmark(Struct, frozen=True):
    """Kept for *job_id* of class *rank*; *overdue*: from its own class too."""

    job_id: JobId
    rank: int
    overdue: bool

    def bars(self, rank: int) -> bool:
        return rank > self.rank or (self.overdue and rank == self.rank)


class Earmarks:
    """The earmarks of one pass."""

    def __init__(self) -> None:
        self._by_node: dict[NodeName, Earmark] = {}
        self._ranks: set[int] = set()

    def barred(self, rank: int) -> dict[NodeName, JobId]:
        """Return the nodes where jobs of class *rank* may not start now, each with the job that it is kept for."""
        return {name: mark.job_id for name, mark in self._by_node.items() if mark.bars(rank)}

    def add(self, group: Group, job_id: JobId, nodes: Iterable[Node], free: FreeNow, *, overdue: bool) -> None:
        """Earmark, of *nodes*, those that *job_id* waits for, unless its class has an earmark already."""
        if group.rank in self._ranks:
            return
        self._ranks.add(group.rank)
        able = [node for node in nodes if could_hold(node, group.request) and node.name not in self._by_node]
        able.sort(key=lambda node: (-len(free.on(node.name).gpus), node.name))
        for node in able[: group.request.nodes]:
            self._by_node[node.name] = Earmark(job_id, group.rank, overdue)
