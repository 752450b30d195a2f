"""Nodes that take work, sorted by what they are and by what is free on them.

A pass looks at each profile once, however many nodes share it: on an idle cluster of a thousand equal nodes there is
one. Lists of nodes are in the order of ties: who joined first, then by name.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from msgspec import Struct

from shunter.domain.ids import NodeName
from shunter.domain.job import WHOLE_GPU, Request, Within
from shunter.domain.narrow import is_model
from shunter.domain.node import Node
from shunter.scheduling.free import Profile

Ref = tuple[float, NodeName]
"""(`joined_s`, name): sorts as ties are broken."""


class Kind(Struct, frozen=True, cache_hash=True):
    """What a node is, as far as requests can tell nodes apart. *islands*: healthy devices of each, most first."""

    pool: str
    rack: str
    models: tuple[str, ...]
    labels: frozenset[tuple[str, str]]
    islands: tuple[int, ...]
    cpus: int
    memory_mib: int

    @property
    def gpus(self) -> int:
        return sum(self.islands)

    def admits(self, request: Request) -> bool:
        """Return whether *request* allows such nodes at all, whatever is free. A node of mixed models must be all of
        the models asked for: a job is not told which device is which."""
        return (
            (not request.pool or request.pool == self.pool)
            and (not request.models or all(is_model(request.models, model) for model in self.models))
            and (not request.labels or self.labels.issuperset(request.labels))
        )

    def could_hold(self, request: Request, gpus: int) -> bool:
        """Return whether such a node, idle, holds a member that takes *gpus* devices."""
        return Profile(self.islands, (), self.cpus, self.memory_mib).fits(request, gpus)


def kind_of(node: Node, pool: str) -> Kind:
    """Return what *node* is, as one of *pool*."""
    sizes: dict[int, int] = {}
    for gpu in node.gpus:
        if gpu.healthy:
            sizes[gpu.island] = sizes.get(gpu.island, 0) + 1
    models = tuple(sorted({gpu.model for gpu in node.gpus if gpu.healthy}))
    islands = tuple(sorted(sizes.values(), reverse=True))
    return Kind(pool, node.rack, models, frozenset(node.labels.items()), islands, node.cpus, node.memory_mib)


class Shelf:
    """Nodes of one kind. `levels[level_of(profile)]` holds them by profile; *roomy* counts those above level 0."""

    __slots__ = ("_shared", "levels", "nodes", "roomy")

    def __init__(self, gpus: int) -> None:
        self.levels: list[dict[Profile, list[Ref]]] = [{} for _ in range(gpus + 2)]
        self.nodes = self.roomy = 0
        self._shared: set[int] = set()

    def copy(self) -> Shelf:
        """Return a twin, to be changed while this one is not: it copies a level when that changes."""
        twin = Shelf(-2)
        twin.levels = self.levels.copy()
        twin.nodes, twin.roomy = self.nodes, self.roomy
        twin._shared = set(range(len(self.levels)))
        return twin

    def add(self, ref: Ref, profile: Profile) -> None:
        at = level_of(profile)
        insort(self._level(at).setdefault(profile, []), ref)
        self.nodes += 1
        self.roomy += at > 0

    def remove(self, ref: Ref, profile: Profile) -> None:
        at = level_of(profile)
        level = self._level(at)
        refs = level[profile]
        del refs[bisect_left(refs, ref)]
        if not refs:
            del level[profile]
        self.nodes -= 1
        self.roomy -= at > 0

    def _level(self, at: int) -> dict[Profile, list[Ref]]:
        """Return the nodes of level *at*, to change them."""
        if at in self._shared:
            self._shared.remove(at)
            self.levels[at] = {profile: refs.copy() for profile, refs in self.levels[at].items()}
        return self.levels[at]


def level_of(profile: Profile) -> int:
    """Return where on a shelf nodes of *profile* stand: 0: no free device, 1: only parts of some, n + 1: n idle ones.

    On a full cluster nearly all stand at 0, where nobody who wants a GPU looks.
    """
    idle = profile.idle
    return idle + 1 if idle else int(bool(profile.parts))


def least_level(request: Request, gpus: int) -> int:
    """Return the level of a shelf from which on nodes may have room for a member of *gpus* devices."""
    if request.gpu_milli < WHOLE_GPU:
        return 1
    return gpus + 1 if gpus else 0


def tightly(request: Request) -> bool:
    """Return whether all of *request* must be in one rack."""
    return request.within is Within.RACK and request.nodes > 1
