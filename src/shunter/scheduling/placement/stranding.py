"""Stranding: the node where the job leaves the fewest free GPUs without the cores and memory that they will need.

Fragmentation sees a shortage of cores only once nothing fits any more. This part looks ahead: free GPU thousandths
beyond those that a node's free cores and memory can serve, in the proportions in which the mix asks for them, are
stranded, and a placement costs the increase. It compares nodes that are in use; which idle one to break is not its
business, for it would always take the richest, which alone can hold the largest jobs.
"""

from __future__ import annotations

from typing import Final

from shunter.domain.job import Request
from shunter.scheduling.free import Profile
from shunter.scheduling.placement import Plain
from shunter.scheduling.shelves import Kind
from shunter.scheduling.view import View

_STEP: Final = 150
"""Thousandths of a GPU: what is equal at this grain is left to the next part."""


class Part(Plain):
    def __init__(self, view: View) -> None:
        mix = view.mix.weights
        self._milli = sum(weight * request.gpus_per_node * request.gpu_milli for request, weight in mix)
        self._cpus = sum(weight * request.cpus for request, weight in mix)
        self._memory_mib = sum(weight * request.memory_mib for request, weight in mix)

    def score(self, kind: Kind, profile: Profile, request: Request, gpus: int, device: int) -> int:
        if profile.idle == kind.gpus:
            return 0
        increase = self._stranded(profile.after(request, gpus, device)) - self._stranded(profile)
        return (increase + _STEP // 2) // _STEP

    def _stranded(self, profile: Profile) -> int:
        served = profile.milli
        if self._cpus:
            served = min(served, profile.cpus * self._milli // self._cpus)
        if self._memory_mib:
            served = min(served, profile.memory_mib * self._milli // self._memory_mib)
        return profile.milli - served
