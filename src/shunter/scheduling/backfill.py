"""Backfill: jobs behind a blocked one may start if they do not delay it.

The first blocked jobs of each home get a reservation: the nodes that can hold them soonest, and when. Whatever comes
later in the order may start elsewhere, or on those nodes if it ends in time, or beside what the blocked job will need.
Since nothing that starts can push a reserved node's time back, the time of the first reservation never grows while
estimates hold. Source: EASY (Lifka, "The ANL/IBM SP scheduling system", JSSPP'95), by node instead of by processor
count; Mu'alem and Feitelson, TPDS 2001.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator
from heapq import merge
from itertools import islice, takewhile
from typing import Final

from msgspec import Struct

from shunter.domain.ids import Incarnation, JobId, NodeName
from shunter.domain.job import WHOLE_GPU, Request, Within
from shunter.domain.phase import NodeShare
from shunter.scheduling import estimate
from shunter.scheduling.free import Free
from shunter.scheduling.free_now import FreeNow
from shunter.scheduling.keeper import Bars, Spoilt
from shunter.scheduling.lanes import Ask, Pending
from shunter.scheduling.plan import Reservation
from shunter.scheduling.shelves import Kind, Ref, least_level, tightly
from shunter.scheduling.soonest import End, ends, keep_up, outlook, soonest
from shunter.scheduling.territory import Tier, avoided, territory
from shunter.scheduling.view import View

Ready = tuple[float, Ref]
"""When a node will have room, and which."""

Found = tuple[list[Ready], list[NodeName]]
"""(chosen nodes, the odd last member's at the end; those that would be as good as them by then)."""


_NO_BAR: Final = math.inf, JobId(0)


class Hold(Struct):
    """What will be left over on a node, once the job that it is kept for is there. *shared* are devices of which others
    will hold a part then, so that a job that takes whole ones does not count on them."""

    gpus: int
    cpus: int
    memory_mib: int
    shared: frozenset[int]

    def leaves(self, share: NodeShare) -> bool:
        """Return whether *share* is left over. A share of a device counts as all of it, unless that one is shared."""
        return self.gpus >= self._devices(share) and self.cpus >= share.cpus and self.memory_mib >= share.memory_mib

    def take(self, share: NodeShare) -> None:
        self.gpus -= self._devices(share)
        self.cpus -= share.cpus
        self.memory_mib -= share.memory_mib

    def _devices(self, share: NodeShare) -> int:
        return 0 if self.shared.issuperset(share.gpus) else len(share.gpus)


class Kept(Struct):
    """The reservation of a job: it starts at *at_s* on the nodes in *holds*, and is thought to end at *until_s*.

    Each of *others* would be as good by then, soonest first: while there is one, no single node is indispensable.
    """

    job_id: JobId
    request: Request
    at_s: float
    until_s: float
    holds: dict[NodeName, Hold]
    others: list[NodeName]


class Backfill:
    """The reservations of one pass."""

    def __init__(self, view: View, free: FreeNow, now_s: float) -> None:
        self._view = view
        self._free = free
        self._now_s = now_s
        assert view.policy.backfill is not None
        self._depth = view.policy.backfill.depth
        self._waiting: list[tuple[Ask, Pending]] = []
        self._count: Counter[frozenset[str]] = Counter()
        self._kept: list[Kept] = []
        self._numbers: dict[JobId, int] = {}
        """In which order jobs were blocked, which is that of `_kept`."""
        self._lengths: dict[JobId, float] = {}
        self._firm: dict[Request, dict[NodeName, tuple[float, JobId]]] = {}
        self._no_spare: list[Kept] | None = None
        keep_up(view, now_s)

    @property
    def made(self) -> tuple[Reservation, ...]:
        return tuple(Reservation(kept.job_id, kept.at_s, tuple(kept.holds)) for kept in self._kept)

    def block(self, ask: Ask, pending: Pending) -> None:
        """As `Keeper.block`: it gets a reservation if it is among the first of its home."""
        line = territory(self._view, ask).home
        if self._count[line] < self._depth:
            self._count[line] += 1
            self._waiting.append((ask, pending))
            self._numbers[pending.job.id] = len(self._numbers)

    def knows(self, ask: Ask) -> bool:
        return self._count[territory(self._view, ask).home] >= self._depth

    def shut(self, ask: Ask) -> JobId | None:
        return None  # a job that is short enough may start anywhere

    def spoils(self, shares: tuple[NodeShare, ...], length_s: float) -> Spoilt | None:
        """As `Keeper.spoils`. Reservations are worked out here, when the first job behind them would fit."""
        self._reserve_for({self._view.places[share.node][0] for share in shares})
        used = {share.node for share in shares}
        for kept in self._late(length_s):
            lost = sum(not kept.holds[share.node].leaves(share) for share in shares if share.node in kept.holds)
            spare = self._spare(kept, used) if lost else []
            if lost > len(spare):
                return Spoilt(kept.job_id, kept.at_s - self._now_s)
            used.update(spare[:lost])  # as `started` will: one node cannot stand in for two reservations
        return None

    def holds_back(self, ask: Ask) -> JobId | None:
        """As `Keeper.holds_back`. Reservations are worked out here too."""
        request = ask.request
        gpus, missing, least = request.gpus_per_node, request.nodes, least_level(request, request.gpus_per_node)
        if not gpus or request.last_gpus or request.gpu_milli < WHOLE_GPU:
            return None
        self._reserve_for(territory(self._view, ask).kinds)
        shortest_s, bars = self._shortest_s(ask), self._firm_bars(request)
        if not bars:
            return None
        out, blockers = avoided(self._view, ask), set()
        for at, _, profile, refs in self._free.rooms(territory(self._view, ask).kinds).rooms:
            if at >= least and profile.fits(request, gpus):
                for _, name in refs:
                    until_s, job_id = bars.get(name, _NO_BAR)
                    if until_s < shortest_s:
                        blockers.add((-until_s, job_id))
                    elif name not in out:
                        missing -= 1
                        if not missing:
                            return None
        return min(blockers)[1] if blockers else None  # for whom the longest run would do no harm

    def _shortest_s(self, ask: Ask) -> float:
        """Return how long the shortest job of *ask* is thought to run at least, wherever it runs."""
        policy, lengths = self._view.policy, ask.lengths
        whole = bool(territory(self._view, ask).whole)
        return min(estimate.length_s(said_s, policy, whole_nodes=whole) for said_s in (lengths[0], lengths[-1]))

    def _firm_bars(self, request: Request) -> dict[NodeName, tuple[float, JobId]]:
        """Return those of `bars` that no spare node can lift, and for whom they are."""
        known = self._firm.get(request)
        if known is None:
            known = self._firm[request] = {}
            share = _member(request)
            for kept in self._irreplaceable():
                within_s = kept.at_s - self._now_s
                for name, hold in kept.holds.items():
                    if not hold.leaves(share) and within_s < known.get(name, _NO_BAR)[0]:
                        known[name] = within_s, kept.job_id
        return known

    def _irreplaceable(self) -> list[Kept]:
        """Return the reservations of which no node has a spare."""
        if self._no_spare is None:
            held = Counter(name for kept in self._kept for name in kept.holds)
            self._no_spare = [kept for kept in self._kept if all(held[name] for name in kept.others)]
        return self._no_spare

    def bars(self, request: Request) -> Bars:
        share = _member(request)
        bars: dict[NodeName, float] = {}
        for kept in self._kept:
            for name, hold in kept.holds.items():
                if not hold.leaves(share):
                    bars[name] = min(bars.get(name, math.inf), kept.at_s - self._now_s)
        return bars

    def started(self, job_id: JobId, shares: tuple[NodeShare, ...], length_s: float) -> None:
        self._lengths[job_id] = length_s
        self._forget()
        for kept in self._late(length_s):
            gone = {share.node for share in shares}
            kept.others = [name for name in kept.others if name not in gone]
            for share in shares:
                hold = kept.holds.get(share.node)
                if hold is None:
                    continue
                if hold.leaves(share):
                    hold.take(share)
                else:
                    del kept.holds[share.node]
                    name = self._spare(kept, gone)[0]
                    kept.others.remove(name)
                    kept.holds[name] = self._hold(name, kept.request, kept.request.gpus_per_node, kept.at_s)

    def _late(self, length_s: float) -> list[Kept]:
        """Return the reservations that a job of *length_s* would run into."""
        return [kept for kept in self._kept if self._now_s + length_s > kept.at_s]

    def _spare(self, kept: Kept, without: Collection[NodeName]) -> list[NodeName]:
        """Return the nodes that could stand in for one of *kept*: none that another reservation counts on."""
        return [
            name
            for name in kept.others
            if name not in without and not any(name in other.holds for other in self._kept if other is not kept)
        ]

    def _forget(self) -> None:
        """Reservations change: forget what was found out about them."""
        self._firm.clear()
        self._no_spare = None

    def _reserve_for(self, kinds: Collection[Kind]) -> None:
        """Work out the reservations that still wait for it, of those who may want nodes of *kinds*, and of all who may
        want the same nodes as those: on them, one depends on the other."""
        if not self._waiting:
            return
        wanted, left, before = set(kinds), self._waiting, -1
        chosen: set[JobId] = set()
        while before < len(chosen):
            before = len(chosen)
            for ask, pending in left:
                theirs = territory(self._view, ask).kinds
                if pending.job.id not in chosen and not wanted.isdisjoint(theirs):
                    chosen.add(pending.job.id)
                    wanted.update(theirs)
        if not chosen:
            return
        self._forget()
        self._waiting = [waiting for waiting in left if waiting[1].job.id not in chosen]
        for ask, pending in left:
            if pending.job.id in chosen:
                self._reserve(ask, pending)
        self._kept.sort(key=lambda kept: self._numbers[kept.job_id])

    def _reserve(self, ask: Ask, pending: Pending) -> None:
        found = self._soonest(ask)
        if found is None:
            return
        request, (chosen, others) = ask.request, found
        length = estimate.length_s(pending.said_s, self._view.policy, whole_nodes=True)
        at_s = max(at_s for at_s, _ in chosen)
        holds = {
            name: self._hold(name, request, request.gpus_of(rank), at_s) for rank, (_, (_, name)) in enumerate(chosen)
        }
        self._kept.append(Kept(pending.job.id, request, at_s, at_s + length, holds, others))

    def _hold(self, name: NodeName, request: Request, gpus: int, at_s: float) -> Hold:
        free = self._free_at(name, at_s)
        # Any device that is left over may be of the island that the job waits for: then none counts as left over.
        any_will_do = request.within is not Within.ISLAND or not free.split
        idle = len(free.idle) - gpus if request.gpu_milli == WHOLE_GPU and any_will_do else 0
        shared = frozenset(free.parts) if request.gpu_milli == WHOLE_GPU else frozenset()
        return Hold(idle, free.cpus - request.cpus, free.memory_mib - request.memory_mib, shared)

    def _soonest(self, ask: Ask) -> Found | None:
        """Return the nodes that could hold *ask* soonest, and those that would be as good by then."""
        request = ask.request
        kinds, out = territory(self._view, ask).kinds, avoided(self._view, ask)
        if not tightly(request):
            return self._soonest_of(request, kinds, out)
        found = []
        for rack in sorted({kind.rack for kind in kinds}):
            one = self._soonest_of(request, tuple(kind for kind in kinds if kind.rack == rack), out)
            if one is not None:
                found.append((max(at_s for at_s, _ in one[0]), rack, one))
        return min(found)[2] if found else None

    def _soonest_of(self, request: Request, kinds: Tier, out: frozenset[NodeName]) -> Found | None:
        ready = self._ready(kinds, request, request.gpus_per_node, out)
        chosen = list(islice(ready, request.nodes - 1 if request.last_gpus else request.nodes))
        if request.last_gpus:
            used = out.union(name for _, (_, name) in chosen)
            chosen += islice(self._ready(kinds, request, request.last_gpus, used), 1)
        if len(chosen) < request.nodes or math.isinf(max(chosen)[0]):
            return None
        if request.last_gpus or tightly(request):
            return chosen, []  # members are not alike, or must stay together: no node stands in for another
        return chosen, [name for _, (_, name) in takewhile(lambda one: one[0] <= chosen[-1][0], ready)]

    def _ready(self, kinds: Tier, request: Request, gpus: int, out: frozenset[NodeName]) -> Iterator[Ready]:
        """Yield the nodes of *kinds*, without those that are *out*, soonest first by when each will have room for a
        member of *gpus* devices; what never will is infinitely late."""
        view, places = self._view, self._view.places
        usual = soonest(view, kinds, request, gpus, self._now_s)
        apart = {*self._free.taken, *(name for kept in self._kept for name in kept.holds)}
        here: list[Ready] = []
        for name in apart - out:
            if name in usual:
                if name in self._free.taken:
                    at_s = outlook(self._free.on(name), self._ends(name)).first_fit(request, gpus)
                else:
                    at_s = usual.when(name)
                # Kept for jobs before this one: it comes after them, though it might fit beside them.
                until_s = [kept.until_s for kept in self._kept if name in kept.holds]
                here.append((max(at_s, self._now_s, *until_s), places[name][1]))
        out |= apart
        return merge(sorted(here), ((max(at_s, self._now_s), ref) for at_s, ref in usual.order if ref[1] not in out))

    def _free_at(self, name: NodeName, at_s: float) -> Free:
        """Return what will be free on node *name* at *at_s* if nothing else starts there."""
        free = self._free.on(name).copy()
        for end, _, share in self._ends(name):
            if end <= at_s:
                free.give_back(share)
        return free

    def _ends(self, name: NodeName) -> list[End]:
        """Return what is held on node *name*, with what this pass gave away there."""
        taken = self._free.taken.get(name, ())
        started = [(self._now_s + self._lengths[job_id], job_id, share) for job_id, share in taken]
        return ends(self._view, name, self._now_s) + started


def _member(request: Request) -> NodeShare:
    """Return what a member of *request* takes, on no node in particular."""
    devices = (-1,) * request.gpus_per_node
    return NodeShare(NodeName(""), Incarnation(""), devices, request.cpus, request.memory_mib)
