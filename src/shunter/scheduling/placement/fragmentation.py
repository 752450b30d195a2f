"""Fragmentation: the node where the job makes the fewest free GPUs useless for what people usually ask for.

The fragmentation of a node for a shape is how many of its free GPU thousandths a job of that shape cannot use: all of
them if it cannot run there, else those of devices that are too little free. A node's fragmentation is the mean over the
shapes of the mix, and a placement costs the increase. Source: Weng et al., "Beware of Fragmentation: Scheduling
GPU-Sharing Workloads with Fragmentation Gradient Descent", ATC'23, section 4.

Scores are steps of `_STEP`, and what is equal at that grain is left to the next part: the mix is an estimate, and
differences below it are noise. (The authors' implementation squeezes scores into 0 to 100, to the same effect.)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from typing import Final, NamedTuple

from shunter.domain.job import WHOLE_GPU, Request
from shunter.scheduling.free import Profile
from shunter.scheduling.placement import Plain
from shunter.scheduling.shelves import Kind
from shunter.scheduling.view import View

_STEP: Final = 150
"""Thousandths of a GPU."""

Weights = tuple[tuple[Request, int], ...]


class Part(Plain):
    def __init__(self, view: View) -> None:
        self._uses = Uses(view.mix.weights)
        self._step = _STEP * max(self._uses.total, 1)

    def score(self, kind: Kind, profile: Profile, request: Request, gpus: int, device: int) -> int:
        use = self._uses.of(kind)
        increase = use.fragmentation(profile.after(request, gpus, device)) - use.fragmentation(profile)
        return (increase + self._step // 2) // self._step


class Uses:
    """Who has a use for nodes, by kind, under *weights*. *total* is the weight of all shapes."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self.total = sum(weight for _, weight in weights)
        self._by_kind: dict[Kind, Use] = {}
        self._by_able: dict[Weights, Use] = {}

    def of(self, kind: Kind) -> Use:
        use = self._by_kind.get(kind)
        if use is None:
            able = tuple((request, weight) for request, weight in self._weights if kind.admits(request))
            use = self._by_able.get(able)
            if use is None:
                use = self._by_able[able] = Use(able, self.total)
            self._by_kind[kind] = use
        return use


class Use:
    """Which shapes could use what of a node that the shapes in *able* may run on, of *total* weight with all others.

    What is left of cores and memory decides who could run there at all. These shapes are added up once for all
    profiles between the same two thresholds, so that a profile costs a few steps, however many shapes there are.
    """

    def __init__(self, able: Weights, total: int) -> None:
        self._able = able
        self._total = total
        self._cpus = sorted({request.cpus for request, _ in able})
        self._memory_mib = sorted({request.memory_mib for request, _ in able})
        self._takers: dict[tuple[int, int], _Takers] = {}

    def fragmentation(self, profile: Profile) -> int:
        """Return the free GPU thousandths of *profile* that are of no use, summed over shapes times their weights."""
        whole, parts, cpus, memory_mib = profile
        between = bisect_right(self._cpus, cpus), bisect_right(self._memory_mib, memory_mib)
        takers = self._takers.get(between)
        if takers is None:
            fitting = [(shape, weight) for shape, weight in self._able if _serves(profile, shape)]
            takers = self._takers[between] = _takers(fitting)
        idle = sum(whole)
        useless = WHOLE_GPU * idle * (self._total - takers.of_whole[min(idle, takers.widest)] - takers.of_shares[-1])
        for part in parts:
            useless += part * (self._total - takers.of_shares[bisect_right(takers.shares, part)])
        return useless


class _Takers(NamedTuple):
    """Weights of shapes that have the cores and memory they need. *of_whole[n]*: those that take up to *n* whole
    devices, *widest* at most; *of_shares[n]*: those that take one of the *n* smallest of *shares* (thousandths)."""

    of_whole: list[int]
    widest: int
    shares: list[int]
    of_shares: list[int]


def _serves(profile: Profile, request: Request) -> bool:
    return profile.cpus >= request.cpus and profile.memory_mib >= request.memory_mib


def _takers(fitting: Iterable[tuple[Request, int]]) -> _Takers:
    whole: dict[int, int] = {}
    shares: dict[int, int] = {}
    for request, weight in fitting:
        if request.gpu_milli == WHOLE_GPU:
            whole[request.gpus_per_node] = whole.get(request.gpus_per_node, 0) + weight
        else:
            shares[request.gpu_milli] = shares.get(request.gpu_milli, 0) + weight
    widest, sizes = max(whole, default=0), sorted(shares)
    return _Takers(
        list(accumulate(whole.get(gpus, 0) for gpus in range(widest + 1))),
        widest,
        sizes,
        list(accumulate((shares[size] for size in sizes), initial=0)),
    )
