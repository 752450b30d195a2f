"""When nodes will have room for a member of a job, as far as anybody said how long runs take.

What is going to be free on a node stays the same until something starts or ends there, or outlives its estimate. So it
is worked out once for all who wait (`Outlook`), and the answers for one shape of member are kept, soonest first, from
pass to pass (`Soonest`): the reservation of a blocked job costs what has changed since the last one of its shape, not
the number of nodes.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from shunter.domain.ids import JobId, NodeName
from shunter.domain.job import Request
from shunter.domain.phase import HOLDS_GPUS, NodeShare
from shunter.scheduling import estimate
from shunter.scheduling.free import Free, Profile
from shunter.scheduling.shelves import Ref
from shunter.scheduling.territory import Tier
from shunter.scheduling.view import View, takes_whole

_MANY: Final = 0.3
"""From this part of the nodes on, looking at all of them anew costs less than moving those that changed."""

_AT_ONCE: Final = 2
"""How many a pass brings up to date of its own accord."""

_KEPT: Final = 500_000
"""Answers for one fleet; a node takes one for each shape of member."""

End = tuple[float, JobId, NodeShare]
"""When a job is thought to end, and what it holds until then."""


class Outlook(Struct, frozen=True):
    """What will be free on a node if nothing else starts: *steps* in time, the first at -inf, which is now.

    It holds until *until_s*, for then a run has outlived its estimate.
    """

    steps: list[tuple[float, Profile]]
    until_s: float

    def first_fit(self, request: Request, gpus: int) -> float:
        """Return when a member of *gpus* devices fits; inf: never."""
        for at_s, profile in self.steps:
            if profile.fits(request, gpus):
                return at_s
        return math.inf


def ends(view: View, name: NodeName, now_s: float) -> list[End]:
    """Return what jobs hold on node *name*, in no order."""
    found = []
    for job_id, share in view.held[name].items():
        phase = view.phases[job_id]
        assert isinstance(phase, HOLDS_GPUS)
        said_s = estimate.said_s(view.jobs[job_id], view.policy)
        whole = math.isinf(said_s) and all(takes_whole(view, one) for one in phase.allocation.shares)
        length = estimate.length_s(said_s, view.policy, whole_nodes=whole)
        found.append((estimate.end_s(estimate.start_of(phase), length, now_s), job_id, share))
    return found


def outlook(free: Free, held: Iterable[End]) -> Outlook:
    """Return what will be free on a node of which *free* is left now and the rest is *held*."""
    order = sorted(held, key=_when)
    steps = [(-math.inf, free.profile())]
    free = free.copy()
    for end_s, _, share in order:
        free.give_back(share)
        steps.append((end_s, free.profile()))
    return Outlook(steps, order[0][0] if order else math.inf)


def _when(end: End) -> tuple[float, JobId]:
    return end[:2]


def outlook_of(view: View, name: NodeName, now_s: float) -> Outlook:
    """Return what will be free on node *name* as *view* is."""
    known: Outlook | None = view.notes.get(name)
    if known is None or known.until_s <= now_s:
        known = view.notes[name] = outlook(view.free[name], ends(view, name, now_s))
    return known


class Soonest:
    """Nodes of *kinds* by when each has room for a member of *request* that takes *gpus* devices."""

    def __init__(self, view: View, kinds: Tier, request: Request, gpus: int) -> None:
        self._view = view
        self._kinds = kinds
        self._request = request
        self._gpus = gpus
        self._seen = 0
        self._known: dict[NodeName, tuple[float, float]] = {}
        # Sorted lists of their own accord: for some thousand nodes, moving memory is the cheapest way to insert.
        self._until: list[tuple[float, NodeName]] = []
        self.order: list[tuple[float, Ref]] = []
        """(when, node), sorted; -inf is now."""

    def __contains__(self, name: NodeName) -> bool:
        return name in self._known

    def when(self, name: NodeName) -> float:
        return self._known[name][0]

    def follow(self, now_s: float) -> None:
        """Bring it up to date with the view."""
        view = self._view
        changed = [name for name in view.changes.since(self._seen) if name in self._known] if self._known else []
        self._seen = view.changes.count
        if not self._known or len(changed) > len(self._known) * _MANY:
            self._look_at_all(now_s)
            return
        for name in changed:
            self._update(name, now_s)
        while self._until and self._until[0][0] <= now_s:
            self._update(self._until[0][1], now_s)

    def _look_at_all(self, now_s: float) -> None:
        view = self._view
        levels = (level for kind in self._kinds for level in view.shelves[kind].levels)
        names = [name for level in levels for refs in level.values() for _, name in refs]
        self._known = {name: self._look_at(name, now_s) for name in names}
        self.order = sorted((at_s, view.places[name][1]) for name, (at_s, _) in self._known.items())
        self._until = sorted((until_s, name) for name, (_, until_s) in self._known.items() if until_s < math.inf)

    def _update(self, name: NodeName, now_s: float) -> None:
        ref = self._view.places[name][1]
        before, after = self._known[name], self._look_at(name, now_s)
        if after[0] != before[0]:
            del self.order[bisect_left(self.order, (before[0], ref))]
            insort(self.order, (after[0], ref))
        if after[1] != before[1]:
            if before[1] < math.inf:
                del self._until[bisect_left(self._until, (before[1], name))]
            if after[1] < math.inf:
                insort(self._until, (after[1], name))
        self._known[name] = after

    def _look_at(self, name: NodeName, now_s: float) -> tuple[float, float]:
        """Return when node *name* has room, and until when this holds if nothing changes there."""
        found = outlook_of(self._view, name, now_s)
        at_s = found.first_fit(self._request, self._gpus)
        return at_s, found.until_s if math.isfinite(at_s) else math.inf


def soonest(view: View, kinds: Tier, request: Request, gpus: int, now_s: float) -> Soonest:
    """Return the nodes of *kinds* by when each has room, as *view* is now."""
    kept: dict[tuple[Tier, Request, int], Soonest] = view.fleet.soonest
    key = kinds, request, gpus
    found = kept.pop(key, None) or Soonest(view, kinds, request, gpus)
    found.follow(now_s)
    kept[key] = found
    return found


def keep_up(view: View, now_s: float) -> None:
    """Bring the one up to date that is furthest behind: catching up with a lot would cost one pass a lot."""
    kept: dict[tuple[Tier, Request, int], Soonest] = view.fleet.soonest
    for _ in range(min(_AT_ONCE, len(kept))):
        key = next(iter(kept))
        found = kept.pop(key)
        if (len(kept) + 1) * len(view.places) <= _KEPT:
            found.follow(now_s)
            kept[key] = found
