"""Nodes and their GPUs, as a node reports them at registration."""

from __future__ import annotations

from msgspec import Struct

from shunter.domain.ids import Incarnation, NodeName


class Gpu(Struct, frozen=True, omit_defaults=True):
    """One device. *index* is its number in PCI bus order (what CUDA_DEVICE_ORDER=PCI_BUS_ID makes CUDA use).

    Devices of the same *island* are joined by NVLink.
    """

    index: int
    model: str
    uuid: str
    memory_mib: int
    healthy: bool = True
    problem: str = ""
    island: int = 0


class Node(Struct, frozen=True, omit_defaults=True):
    """A node as its current incarnation reported it.

    *cordoned* is what an operator wants (no new work; empty: schedulable), everything else is what the node observed.
    *joined_s* is wall-clock time; among equally good nodes the one that joined first is used first. *pool*, *rack* and
    *labels* are what it was started with; a node without a pool serves all classes. *version* and *pid* are those of
    its worker.
    """

    name: NodeName
    incarnation: Incarnation
    gpus: tuple[Gpu, ...]
    cpus: int
    memory_mib: int
    joined_s: float
    address: str = ""
    source: str = ""
    cordoned: str = ""
    pool: str = ""
    rack: str = ""
    labels: dict[str, str] = {}
    version: str = ""
    pid: int = 0

    @property
    def usable_gpus(self) -> int:
        return sum(gpu.healthy for gpu in self.gpus)
