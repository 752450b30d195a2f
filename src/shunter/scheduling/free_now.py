"""What is free in the course of a pass: the view, minus what the pass has given away. The view is not changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from shunter.domain.ids import JobId, NodeName
from shunter.domain.phase import NodeShare
from shunter.scheduling.free import Free, Profile
from shunter.scheduling.shelves import Kind, Ref, Shelf
from shunter.scheduling.view import View

Tier = tuple[Kind, ...]


Room = tuple[int, Kind, Profile, list[Ref]]
"""Nodes that are alike: their level (see `shelves.level_of`), what they are, what is free on each, and which."""


class Rooms(Struct, frozen=True):
    """Where anything of a GPU is free among nodes of some kinds, *total* idle devices in all and *most* on one node."""

    rooms: list[Room]
    total: int
    most: int


class FreeNow:
    """`taken` are the shares that the pass gave away on a node, by job; *count* is the number of those jobs."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._changed: dict[NodeName, Free] = {}
        self._profiles: dict[NodeName, Profile] = {}
        self._shelves: dict[Kind, Shelf] = {}
        self._may_be_roomy: dict[int, tuple[Tier, list[Kind]]] = {}
        self._rooms: dict[int, Rooms] = {}
        self.count = 0
        self.taken: dict[NodeName, list[tuple[JobId, NodeShare]]] = {}

    def on(self, name: NodeName) -> Free:
        return self._changed.get(name) or self._view.free[name]

    def shelf(self, kind: Kind) -> Shelf:
        return self._shelves.get(kind) or self._view.shelves[kind]

    def _roomy(self, kinds: Tier) -> list[Kind]:
        """Return those of *kinds* of which a node may have something of a GPU free, in their order."""
        known = self._may_be_roomy.get(id(kinds))
        if known is None:
            shelves = self._view.shelves  # what is free only shrinks
            # With *kinds* itself, for as long as it lives no other tuple has its id.
            known = self._may_be_roomy[id(kinds)] = kinds, [kind for kind in kinds if shelves[kind].roomy]
        return known[1]

    def rooms(self, kinds: Tier) -> Rooms:
        """Return what is free on nodes of *kinds*."""
        known = self._rooms.get(id(kinds))
        if known is None:
            found = [
                (at, kind, profile, refs)
                for kind in self._roomy(kinds)
                for at, level in enumerate(self.shelf(kind).levels)
                if at and level
                for profile, refs in level.items()
            ]
            total = sum([(at - 1) * len(refs) for at, _, _, refs in found])
            known = self._rooms[id(kinds)] = Rooms(found, total, max([room[0] - 1 for room in found], default=0))
        return known

    def all_rooms(self, kinds: Tier) -> Iterator[Room]:
        """Yield full nodes too, for those who want no GPU."""
        for kind in kinds:
            for at, level in enumerate(self.shelf(kind).levels):
                for profile, refs in level.items():
                    yield at, kind, profile, refs

    def take(self, job_id: JobId, shares: Sequence[NodeShare]) -> None:
        self.count += 1
        self._rooms.clear()
        for share in shares:
            name = share.node
            kind, ref, before = self._view.places[name]
            if name not in self._changed:
                self._changed[name] = self._view.free[name].copy()
            if kind not in self._shelves:
                self._shelves[kind] = self._view.shelves[kind].copy()
            free = self._changed[name]
            free.take(share)
            after = free.profile()
            self._shelves[kind].remove(ref, self._profiles.get(name, before))
            self._shelves[kind].add(ref, after)
            self._profiles[name] = after
            self.taken.setdefault(name, []).append((job_id, share))
