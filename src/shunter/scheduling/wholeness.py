"""Idle nodes stay whole for jobs that need whole ones.

While a job that takes whole nodes is blocked, a job behind it that takes a part of a node waits for room on a node that
is in use already, up to `keep_whole_s`, before it breaks an idle one. Narrow jobs come and go all the time and find
holes; each idle node they break is lost to wide jobs until the last of them has ended. Source: delay scheduling
(Zaharia et al., EuroSys'10), with packing in the place of locality.
"""

from __future__ import annotations

import math

from shunter.domain.ids import JobId
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
        self._patience_s = view.policy.keep_whole_s
        self._wanted: dict[Kind, JobId] = {}
        self.again_s: float | None = None

    def block(self, ask: Ask, pending: Pending) -> None:
        """A job cannot start now for want of free nodes."""
        for kind in self._whole(ask):
            self._wanted.setdefault(kind, pending.job.id)

    def knows(self, ask: Ask) -> bool:
        """Return whether it makes no difference any more that a job of *ask* is blocked."""
        return all(kind in self._wanted for kind in self._whole(ask))

    def _whole(self, ask: Ask) -> list[Kind]:
        """Return the kinds of nodes that *ask* takes whole, for as long as anybody has patience."""
        if not self._patience_s:
            return []
        gpus = ask.request.gpus_per_node
        return [kind for kind in territory(self._view, ask).kinds if gpus >= kind.gpus > 0]

    def breaks(self, shares: tuple[NodeShare, ...], pending: Pending) -> bool:
        """Return whether the job of *pending*, still patient, would break an idle node that somebody needs whole."""
        if not self._wanted:
            return False
        patient_until_s = pending.phase.since_s + self._patience_s
        if self._now_s >= patient_until_s or not any(self._breaks(share) for share in shares):
            return False
        self.again_s = min(patient_until_s, self.again_s or patient_until_s)
        return True

    def bars(self) -> Bars:
        """Return the idle nodes that are to stay whole, as bars to every run."""
        shelves = [(kind, self._free.shelf(kind)) for kind in self._wanted]
        return {
            name: -math.inf for kind, shelf in shelves for refs in shelf.by_idle[kind.gpus].values() for _, name in refs
        }

    def blocker(self, shares: tuple[NodeShare, ...]) -> JobId:
        """Return for whom one of *shares* is kept."""
        return min(self._wanted[self._view.places[share.node][0]] for share in shares if self._breaks(share))

    def _breaks(self, share: NodeShare) -> bool:
        idle = len(self._free.on(share.node).idle)
        kind = self._view.places[share.node][0]
        return bool(share.gpus) and idle == kind.gpus and kind in self._wanted and not takes_whole(self._view, share)
