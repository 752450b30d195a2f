"""Asks of which no job can start, told without waiting for the turn of one.

What is free only shrinks within a pass, what is kept for others only grows. So an ask that has no room, or only on idle
nodes that stay whole for others, is out of the pass as soon as it makes no difference any more whose turn comes first:
once all reservations of its line are taken. A pass on a full cluster ends here, however many jobs wait.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from shunter.domain.ids import JobId
from shunter.domain.reason import HeldBack, Reason
from shunter.scheduling.fit import Fitter
from shunter.scheduling.free_now import FreeNow
from shunter.scheduling.keeper import Keeper
from shunter.scheduling.lanes import Ask
from shunter.scheduling.view import View
from shunter.scheduling.wholeness import Wholeness
from shunter.scheduling.why_not import why_not

Out = tuple[Ask, JobId, Reason]
"""An ask that is out, with a job of it, and why."""


class Sieve:
    """Of one pass. *refused* are the asks that are out already, *placed* has the jobs of each that start."""

    def __init__(
        self, view: View, free: FreeNow, fitter: Fitter, keeper: Keeper, whole: Wholeness,
        refused: Collection[Ask], placed: Mapping[Ask, set[JobId]],
    ) -> None:  # fmt: skip
        self._view = view
        self._free = free
        self._fitter = fitter
        self._keeper = keeper
        self._whole = whole
        self._refused = refused
        self._placed = placed
        self._hopeless: list[Ask] = []
        self._looked = -1

    def look(self) -> Iterable[Out]:
        """Return what has no room any more, if anything was placed since last it was asked.

        If nothing has room, nothing starts, whoever is blocked: then all of it, else as `known`.
        """
        if self._looked == self._free.count:
            return ()
        self._looked = self._free.count
        left = self._left()
        self._hopeless = [ask for ask in left if not self._fitter.has_room(ask)]
        return self._no_room(self._hopeless) if len(self._hopeless) == len(left) else self.known()

    def known(self) -> Iterator[Out]:
        """Yield what cannot start, and of which it makes no difference that it is blocked."""
        no_room = set(self._hopeless)
        known = {ask for ask in self._hopeless if self._keeper.knows(ask) and self._whole.knows(ask)}
        if known:
            self._hopeless = [ask for ask in self._hopeless if ask not in known]
            yield from self._no_room(ask for ask in known if ask not in self._refused)
        some_room = [ask for ask in self._left() if ask not in no_room]
        found = [(ask, blocker) for ask in some_room if (blocker := self._kept_from(ask)) is not None]
        for ask, blocker in sorted(found, key=_place):
            yield ask, self._first(ask), HeldBack(blocker)

    def _kept_from(self, ask: Ask) -> JobId | None:
        """Return for whom all is kept that has room for *ask*, once it makes no difference that it is blocked."""
        if not self._keeper.knows(ask):
            return None
        blocker = self._keeper.holds_back(ask)
        # As long as the one that has waited longest is patient, all are.
        return self._whole.keeps_all(ask, ask.since[0]) if blocker is None else blocker

    def _left(self) -> list[Ask]:
        """Return the asks that are not out, and of which jobs are left."""
        refused, placed = self._refused, self._placed
        asks = self._view.lanes.asks.values()
        return [ask for ask in asks if ask not in refused and len(placed.get(ask, ())) < ask.count]

    def _first(self, ask: Ask) -> JobId:
        started = self._placed.get(ask, ())
        first: JobId = next(job_id for job_id in ask.ids if job_id not in started)
        return first

    def _no_room(self, asks: Iterable[Ask]) -> Iterator[Out]:
        for ask, _ in sorted(((ask, None) for ask in asks), key=_place):
            yield ask, self._first(ask), why_not(ask, self._view, self._free)


def _place(found: tuple[Ask, object]) -> tuple[int, JobId]:
    """Return what puts asks in the same order, however they came into the view."""
    return found[0].rank, found[0].ids[0]
