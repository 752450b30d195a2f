"""No backfill: whoever is blocked blocks all behind it, wherever it might run itself."""

from __future__ import annotations

import math

from shunter.domain.ids import JobId
from shunter.domain.job import Request
from shunter.domain.phase import NodeShare
from shunter.scheduling.keeper import NO_BARS, Bars, Spoilt
from shunter.scheduling.lanes import Ask, Pending
from shunter.scheduling.plan import Reservation
from shunter.scheduling.shelves import Kind
from shunter.scheduling.territory import territory
from shunter.scheduling.view import View


class Line:
    """Closes kinds of nodes to everything behind a blocked job."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._closed: dict[Kind, JobId] = {}
        self._whole: dict[int, JobId] = {}

    @property
    def made(self) -> tuple[Reservation, ...]:
        return ()

    def block(self, ask: Ask, pending: Pending) -> None:
        kinds = territory(self._view, ask).kinds
        self._whole.setdefault(id(kinds), pending.job.id)
        for kind in kinds:
            self._closed.setdefault(kind, pending.job.id)

    def knows(self, ask: Ask) -> bool:
        return False  # for whom the others wait is told by who was blocked before them

    def holds_back(self, ask: Ask) -> JobId | None:
        return None

    def shut(self, ask: Ask) -> JobId | None:
        if not self._closed:
            return None
        kinds = territory(self._view, ask).kinds
        blocker = self._whole.get(id(kinds))  # mostly, whoever waits behind may use just what the first may
        if blocker is None and all(kind in self._closed for kind in kinds):
            blocker = min((self._closed[kind] for kind in kinds), default=None)
        return blocker

    def bars(self, request: Request) -> Bars:
        if not self._closed:
            return NO_BARS
        return {name: -math.inf for name, (kind, _, _) in self._view.places.items() if kind in self._closed}

    def spoils(self, shares: tuple[NodeShare, ...], length_s: float) -> Spoilt | None:
        kinds = (self._view.places[share.node][0] for share in shares)
        blockers = [self._closed[kind] for kind in kinds if kind in self._closed]
        return Spoilt(min(blockers), 0.0) if blockers else None

    def started(self, job_id: JobId, shares: tuple[NodeShare, ...], length_s: float) -> None:
        pass
