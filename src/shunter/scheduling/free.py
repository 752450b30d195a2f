"""What is unheld on a node, device by device, and its profile: the part of that which scores depend on.

Nodes of one kind and one profile are interchangeable for every score, so each score is computed once per profile and
not once per node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from shunter.domain.job import WHOLE_GPU, Request, Within
from shunter.domain.node import Node
from shunter.domain.phase import NodeShare


class Profile(NamedTuple):
    """*whole*: idle devices of each NVLink island, most first. *parts*: free thousandths of each device that is partly
    taken, ascending, zeros left out."""

    whole: tuple[int, ...]
    parts: tuple[int, ...]
    cpus: int
    memory_mib: int

    @property
    def idle(self) -> int:
        """Devices that nobody holds."""
        return sum(self.whole)

    @property
    def milli(self) -> int:
        """Free thousandths of GPUs."""
        return WHOLE_GPU * sum(self.whole) + sum(self.parts)

    def fits(self, request: Request, gpus: int) -> bool:
        """Return whether a member of *request* that takes *gpus* devices finds room."""
        if self.cpus < request.cpus or self.memory_mib < request.memory_mib:
            return False
        if request.gpu_milli < WHOLE_GPU:
            return bool(self.whole and self.whole[0]) or bool(self.parts and self.parts[-1] >= request.gpu_milli)
        if request.within is Within.ISLAND:
            return not gpus or bool(self.whole and self.whole[0] >= gpus)
        return sum(self.whole) >= gpus

    def devices(self, request: Request) -> tuple[int, ...]:
        """Return the devices that a share may be cut from, by their free thousandths, each once, ascending."""
        parts = {part for part in self.parts if part >= request.gpu_milli}
        if self.whole and self.whole[0]:
            parts.add(WHOLE_GPU)
        return tuple(sorted(parts))

    def after(self, request: Request, gpus: int, device: int) -> Profile:
        """Return the profile once a member is placed; for a share, *device* is the choice among `devices`."""
        cpus, memory_mib = self.cpus - request.cpus, self.memory_mib - request.memory_mib
        if request.gpu_milli == WHOLE_GPU:
            return Profile(tightest(self.whole, gpus), self.parts, cpus, memory_mib)
        parts = list(self.parts)
        whole = self.whole
        if device == WHOLE_GPU:
            whole = tightest(self.whole, 1)
        else:
            parts.remove(device)
        if device > request.gpu_milli:
            parts.append(device - request.gpu_milli)
        return Profile(whole, tuple(sorted(parts)), cpus, memory_mib)


def tightest(whole: tuple[int, ...], gpus: int) -> tuple[int, ...]:
    """Return *whole* (idle devices by island, most first) after *gpus* were taken as `Free.pick` takes them."""
    if len(whole) <= 1:
        return (whole[0] - gpus,) if whole else whole
    left = list(whole)
    for at in range(len(left) - 1, -1, -1):  # ascending: the smallest island that holds all of it
        if left[at] >= gpus:
            left[at] -= gpus
            return tuple(sorted(left, reverse=True))
    for at, count in enumerate(left):  # no island does: as few islands as can be
        taken = min(count, gpus)
        left[at] -= taken
        gpus -= taken
    return tuple(sorted(left, reverse=True))


class Free:
    """What is unheld on one node. *idle* are whole devices, *parts* the free thousandths of those partly taken."""

    __slots__ = ("cpus", "idle", "islands", "memory_mib", "parts", "split")

    def __init__(
        self, idle: set[int], parts: dict[int, int], cpus: int, memory_mib: int, islands: Mapping[int, int], split: bool
    ) -> None:
        self.idle = idle
        self.parts = parts
        self.cpus = cpus
        self.memory_mib = memory_mib
        self.islands = islands
        """Island of each healthy device."""
        self.split = split
        """Whether there is more than one island."""

    @classmethod
    def of(cls, node: Node, shares: Iterable[NodeShare]) -> Free:
        """Return what *shares* leave of *node*."""
        islands = {gpu.index: gpu.island for gpu in node.gpus if gpu.healthy}
        free = cls(set(islands), {}, node.cpus, node.memory_mib, islands, len(set(islands.values())) > 1)
        for share in shares:
            free.take(share)
        return free

    def copy(self) -> Free:
        return Free(set(self.idle), dict(self.parts), self.cpus, self.memory_mib, self.islands, self.split)

    def take(self, share: NodeShare) -> None:
        self.cpus -= share.cpus
        self.memory_mib -= share.memory_mib
        if share.gpu_milli == WHOLE_GPU:
            self.idle.difference_update(share.gpus)
            return
        for gpu in share.gpus:
            if gpu in self.islands:
                self.parts[gpu] = self.parts.get(gpu, WHOLE_GPU) - share.gpu_milli
                self.idle.discard(gpu)

    def give_back(self, share: NodeShare) -> None:
        """Undo `take`. A device that has become unhealthy meanwhile stays out."""
        self.cpus += share.cpus
        self.memory_mib += share.memory_mib
        for gpu in share.gpus:
            if gpu not in self.islands:
                continue
            if share.gpu_milli < WHOLE_GPU:
                self.parts[gpu] += share.gpu_milli
                if self.parts[gpu] < WHOLE_GPU:
                    continue
                del self.parts[gpu]
            self.idle.add(gpu)

    def profile(self) -> Profile:
        parts = tuple(sorted(filter(None, self.parts.values()))) if self.parts else ()
        return Profile(self._whole(), parts, self.cpus, self.memory_mib)

    def _whole(self) -> tuple[int, ...]:
        if not self.split:
            return (len(self.idle),) if self.islands else ()
        counts = dict.fromkeys(self.islands.values(), 0)
        for gpu in self.idle:
            counts[self.islands[gpu]] += 1
        return tuple(sorted(counts.values(), reverse=True))

    def pick(self, request: Request, gpus: int, device: int) -> tuple[int, ...]:
        """Return the devices that a member of *gpus* devices gets, ascending; *device* as in `Profile.after`.

        They come from the NVLink island that they fit most tightly, ties by device index.
        """
        if request.gpu_milli < WHOLE_GPU and device < WHOLE_GPU:
            return (min(gpu for gpu, part in self.parts.items() if part == device),)
        if not self.split:
            return tuple(sorted(self.idle)[:gpus])
        counts = Counter(self.islands[gpu] for gpu in self.idle)
        enough = [(count, island) for island, count in counts.items() if count >= gpus]
        if enough:
            _, best = min(enough)
            return tuple(sorted(gpu for gpu in self.idle if self.islands[gpu] == best)[:gpus])
        fullest = sorted(self.idle, key=lambda gpu: (-counts[self.islands[gpu]], self.islands[gpu], gpu))
        return tuple(sorted(fullest[:gpus]))
