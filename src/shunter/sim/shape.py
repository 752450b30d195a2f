"""From the cells of a row that say what a job needs to a Request; equal ones are one object."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import itemgetter
from typing import Final

from msgspec.structs import replace

from shunter.domain.job import WHOLE_GPU, Request
from shunter.domain.node import Node
from shunter.sim.capacity import Capacity, unknown_pool
from shunter.sim.files import Column, Table

Cells = tuple[str, ...]
"""`gpus`, `gpu_milli`, `gpu_model`, `cpus`, `mem_gib` and the column that names the pool, as they stand in the row."""

_NONE: Final = 0.0


class Shapes(dict[Cells, Request | str]):
    """What cells mean on *nodes*, each combination worked out once: a request, or why no state could ever hold it.

    A job wider than any node that it may use takes whole such nodes, and what remains on a last one. *partition* is the
    column that names the pool. Of cores and memory only those in *resources* (`cpus`, `memory`) count, divided evenly.
    Models count if any node names one.
    """

    def __init__(self, table: Table, nodes: Sequence[Node], partition: str | None, resources: frozenset[str]) -> None:
        super().__init__()
        self._capacity = Capacity(nodes)
        self._partition = partition
        self._resources = resources
        self._requests: dict[Request, Request] = {}
        self._gpus = Column(table, "gpus", whole=True)
        self._milli = Column(table, "gpu_milli", least=1, most=WHOLE_GPU, whole=True, empty=WHOLE_GPU)
        self._cpus = Column(table, "cpus", empty=_NONE)
        self._mem_gib = Column(table, "mem_gib", empty=_NONE)
        names = ("gpus", "gpu_milli", "gpu_model", "cpus", "mem_gib")
        pool = -1 if partition is None else table.place(partition)
        self.cells_of = itemgetter(*map(table.place, names), pool)

    def __missing__(self, cells: Cells) -> Request | str:
        shape = self[cells] = self._read(*cells)
        return shape

    def _read(self, gpus: str, gpu_milli: str, model: str, cpus: str, mem_gib: str, pool: str) -> Request | str:
        # All cells are read first: a cell that is no number ends the run, whatever else is wrong with its row.
        total, milli = int(self._gpus[gpus]), int(self._milli[gpu_milli])
        cores, memory_mib = self._cpus[cpus], self._mem_gib[mem_gib] * 1024
        if self._partition is not None and pool not in self._capacity.pools:
            return unknown_pool(self._partition, pool, self._capacity.pools)
        if milli < WHOLE_GPU and total != 1:
            return f"gpu_milli: expected {WHOLE_GPU} with gpus = {total} (a share is of one GPU), got {milli}"
        named = {name for part in model.split("|") if (name := part.strip())}
        models = tuple(sorted(named)) if total and self._capacity.models else ()
        request = self._divided(total, Request(0, gpu_milli=milli, models=models, pool=pool))
        request = replace(
            request,
            cpus=math.ceil(cores / request.nodes) if "cpus" in self._resources else 0,
            memory_mib=math.ceil(memory_mib / request.nodes) if "memory" in self._resources else 0,
        )
        return self._capacity.problem(request) or self._requests.setdefault(request, request)

    def _divided(self, gpus: int, request: Request) -> Request:
        widest = self._capacity.widest(request)
        if gpus <= widest or not widest:
            return replace(request, gpus_per_node=gpus)
        return replace(request, gpus_per_node=widest, nodes=-(-gpus // widest), last_gpus=gpus % widest)
