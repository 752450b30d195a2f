"""What is free in the course of a pass: the view, minus what the pass has given away. The view is not changed."""

from __future__ import annotations

from collections.abc import Sequence

from shunter.domain.ids import JobId, NodeName
from shunter.domain.phase import NodeShare
from shunter.scheduling.free import Free, Profile
from shunter.scheduling.shelves import Kind, Shelf
from shunter.scheduling.view import View


class FreeNow:
    """`taken` are the shares that the pass gave away on a node, by job."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._changed: dict[NodeName, Free] = {}
        self._profiles: dict[NodeName, Profile] = {}
        self._shelves: dict[Kind, Shelf] = {}
        self.taken: dict[NodeName, list[tuple[JobId, NodeShare]]] = {}

    def on(self, name: NodeName) -> Free:
        return self._changed.get(name) or self._view.free[name]

    def shelf(self, kind: Kind) -> Shelf:
        return self._shelves.get(kind) or self._view.shelves[kind]

    def take(self, job_id: JobId, shares: Sequence[NodeShare]) -> None:
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
