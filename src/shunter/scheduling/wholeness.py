"""Idle nodes stay whole for jobs that need whole ones.

While a job that takes whole nodes is blocked, a job behind it that takes a part of a node waits for room on a node that
is in use already, up to `keep_whole_s`, before it breaks an idle one. Narrow jobs come and go all the time and find
holes; each idle node they break is lost to wide jobs until the last of them has ended. Source: delay scheduling
(Zaharia et al., EuroSys'10), with packing in the place of locality.
"""

from __future__ import annotations

import math

from shunter.domain.ids import JobId
from shunter.domain.job import WHOLE_GPU
from shunter.domain.phase import NodeShare
from shunter.scheduling.free_now import FreeNow
from shunter.scheduling.keeper import Bars
from shunter.scheduling.lanes import Ask, Pending
from shunter.scheduling.shelves import Kind
from shunter.scheduling.territory import territory
from shunter.scheduling.view import View, takes_whole


class Wholeness:
    """Who is blocked for want of whole nodes in this pass. *again_s*: when the first patience ends (wall clock)."""

    def __init__(self, view: View, free: FreeNow, now_s: float) -> None:
        self._view = view
        self._free = free
        self._now_s = now_s
        self.patience_s = view.policy.keep_whole_s
        self._wanted: dict[Kind, JobId] = {}
        self._all_wanted: set[int] = set()
        self._bars: tuple[int, int, Bars] | None = None
        self.again_s: float | None = None

    def block(self, ask: Ask, pending: Pending) -> None:
        """A job cannot start now for want of free nodes."""
        if self.knows(ask):
            return
        whole = territory(self._view, ask).whole
        for kind in whole:
            self._wanted.setdefault(kind, pending.job.id)
        self._all_wanted.add(id(whole))

    def knows(self, ask: Ask) -> bool:
        """Return whether it makes no difference any more that a job of *ask* is blocked."""
        whole = territory(self._view, ask).whole
        return not whole or not self.patience_s or id(whole) in self._all_wanted

    @property
    def wants(self) -> bool:
        return bool(self._wanted)

    def keeps_all(self, ask: Ask, since_s: float) -> JobId | None:
        """Return for whom every node is kept that has room for a job of *ask*, still patient for it waits only since
        *since_s*; None: not so, or hard to say."""
        request = ask.request
        gpus, part = request.gpus_per_node, request.gpu_milli < WHOLE_GPU
        if not self._wanted or not gpus or request.nodes > 1 or not self._patient(since_s):
            return None
        blockers = []
        for at, kind, profile, _ in self._free.rooms(territory(self._view, ask).kinds).rooms:
            if (part or at > gpus) and profile.fits(request, gpus):
                if at <= kind.gpus or kind not in self._wanted or (gpus >= kind.gpus and not part):
                    return None
                blockers.append(self._wanted[kind])
        if not blockers:
            return None
        self.note(since_s)
        return min(blockers)

    def _patient(self, since_s: float) -> bool:
        return self._now_s < since_s + self.patience_s

    def breaks(self, shares: tuple[NodeShare, ...], pending: Pending) -> bool:
        """Return whether the job of *pending*, still patient, would break an idle node that somebody needs whole."""
        if not self._wanted:
            return False
        if not self._patient(pending.phase.since_s) or not any(self._breaks(share) for share in shares):
            return False
        self.note(pending.phase.since_s)
        return True

    def note(self, since_s: float) -> None:
        """A job that waits since *since_s* (inf: none) was left out because it has patience."""
        if since_s < math.inf:
            again_s = since_s + self.patience_s
            self.again_s = min(again_s, self.again_s or again_s)

    def bars(self) -> Bars:
        """Return the idle nodes that are to stay whole, as bars to every run."""
        known = self._bars
        if known is None or known[:2] != (len(self._wanted), self._free.count):
            shelves = [self._free.shelf(kind) for kind in self._wanted if self._view.shelves[kind].roomy]
            bars = {name: -math.inf for shelf in shelves for refs in shelf.levels[-1].values() for _, name in refs}
            known = self._bars = len(self._wanted), self._free.count, bars
        return known[2]

    def blocker(self, shares: tuple[NodeShare, ...]) -> JobId:
        """Return for whom one of *shares* is kept."""
        return min(self._wanted[self._view.places[share.node][0]] for share in shares if self._breaks(share))

    def _breaks(self, share: NodeShare) -> bool:
        idle = len(self._free.on(share.node).idle)
        kind = self._view.places[share.node][0]
        return bool(share.gpus) and idle == kind.gpus and kind in self._wanted and not takes_whole(self._view, share)
