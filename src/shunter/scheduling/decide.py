"""The decision: which pending jobs start now, where, and why the others do not.

A pure function of (view, policy, now). It reads as the numbered steps of one pass:

1. take pending jobs in the policy's order (turns.py, order/);
2. place each where the policy's placement likes it best, all members or none (fit.py, placement/);
3. a job that does not fit speaks for all that ask for the same, for what is free only shrinks within a pass;
4. it is kept a place: by a reservation that jobs behind it must not delay (backfill.py) or, without backfill, by
   nothing behind it starting on nodes that it might use.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

from shunter.domain.ids import JobId
from shunter.domain.phase import NodeShare
from shunter.domain.reason import HeldBack, InLine, NotEnoughFree, Reason
from shunter.scheduling.backfill import Backfill
from shunter.scheduling.estimate import length_s
from shunter.scheduling.fit import Fitter
from shunter.scheduling.free_now import FreeNow
from shunter.scheduling.keeper import Keeper
from shunter.scheduling.lanes import Ask, Pending
from shunter.scheduling.line import Line
from shunter.scheduling.plan import Placement, Plan, Refusal
from shunter.scheduling.policy import Policy
from shunter.scheduling.sieve import Out, Sieve
from shunter.scheduling.territory import territory
from shunter.scheduling.turns import Limit, Turn, Turns
from shunter.scheduling.view import View, takes_whole
from shunter.scheduling.wholeness import Wholeness
from shunter.scheduling.why_not import why_not


def decide(view: View, policy: Policy, now_s: float) -> Plan:
    """Return the plan for *view* at *now_s* (wall clock). Same input, same plan; *view* is not changed.

    Raises ValueError for a *view* that was made for another policy.
    """
    if view.policy is not policy and view.policy != policy:
        raise ValueError("policy: expected the one that the view was made for; use view.made_for(policy)")
    return _Pass(view, now_s).run()


class _Pass:
    """One pass. `free` is what is left in the course of it."""

    def __init__(self, view: View, now_s: float) -> None:
        self.view = view
        self.now_s = now_s
        self.free = FreeNow(view)
        self.fitter = Fitter(view, self.free)
        self.turns = Turns(view, now_s)
        self.keeper: Keeper = Backfill(view, self.free, now_s) if view.policy.backfill else Line(view)
        self.whole = Wholeness(view, self.free, now_s)
        self.tight = view.policy.backfill is not None and view.policy.backfill.tight
        self.placements: list[Placement] = []
        self.refusals: dict[Ask, tuple[JobId, Reason]] = {}
        self.placed: dict[Ask, set[JobId]] = defaultdict(set)
        self.sieve = Sieve(view, self.free, self.fitter, self.keeper, self.whole, self.turns.refused, self.placed)

    def run(self) -> Plan:
        if self.view.policy.backfill is not None:
            self._rule_out(self.sieve.look())
        for turn in self.turns:
            self._start(turn)
        refusals = tuple(
            Refusal(
                ask.rank,
                ask.request,
                first,
                ask.count - len(self.placed.get(ask, ())),
                reason,
                tuple(sorted(ask.avoid)),
            )
            for ask, (first, reason) in self.refusals.items()
        )
        self.whole.note(self.turns.too_young_s)
        return Plan(tuple(self.placements), refusals, self.keeper.made, self.whole.again_s)

    def _start(self, turn: Turn) -> None:
        """Place the job of *turn* if it fits and delays nobody before it; else say why it waits."""
        ask, pending = turn.ask, turn.pending
        blocker = self.keeper.shut(ask)
        if blocker is not None:
            self._refuse(turn, InLine(blocker))
            return
        blocker = self.whole.keeps_all(ask, pending.phase.since_s)
        if blocker is not None:
            self._keep_whole(turn, blocker)
            return
        shares = self.fitter.place(ask, pending.job.id)
        if shares is None:
            self._wait(turn)
            return
        if self.whole.breaks(shares, pending):
            blocker = self.whole.blocker(shares)
            elsewhere = self.fitter.place(ask, pending.job.id, bars=self.whole.bars())
            if elsewhere is None:
                self._keep_whole(turn, blocker)
                return
            shares = elsewhere
        length = self._length(pending, shares)
        spoilt = self.keeper.spoils(shares, length)
        if spoilt is not None:
            bars = self.keeper.bars(ask.request)
            again = None if self.tight else self.fitter.place(ask, pending.job.id, length_s=length, bars=bars)
            if again is None or self.whole.breaks(again, pending):
                self._hold_back(turn, spoilt.within_s if self.tight else self.fitter.longest(ask, bars), spoilt.job_id)
                return
            shares = again
        self._place(turn, shares)

    def _length(self, pending: Pending, shares: tuple[NodeShare, ...]) -> float:
        """Return how long the job of *pending* is thought to run on *shares*."""
        whole = all(takes_whole(self.view, share) for share in shares)
        return length_s(pending.said_s, self.view.policy, whole_nodes=whole)

    def _place(self, turn: Turn, shares: tuple[NodeShare, ...]) -> None:
        pending = turn.pending
        self.free.take(pending.job.id, shares)
        self.keeper.started(pending.job.id, shares, self._length(pending, shares))
        self.placements.append(Placement(pending.job.id, shares))
        self.placed[turn.ask].add(pending.job.id)
        self.turns.placed(turn)

    def _wait(self, turn: Turn) -> None:
        """The job does not fit what is free: keep it a place, unless it fits nothing that is here."""
        reason = why_not(turn.ask, self.view, self.free)
        self._refuse(turn, reason)
        if isinstance(reason, NotEnoughFree):
            self._block(turn, for_room=True)
            if self.view.policy.backfill is not None:
                self._rule_out(self.sieve.look())

    def _block(self, turn: Turn, *, for_room: bool) -> None:
        """Keep a place for the job of *turn*; *for_room*: it waits for nodes, and not only for those before it."""
        ask = turn.ask
        before = self.keeper.knows(ask), self.whole.knows(ask)
        self.keeper.block(ask, turn.pending)
        if for_room:
            self.whole.block(ask, turn.pending)
        if self.keeper.knows(ask) and before != (True, self.whole.knows(ask)):
            self._rule_out(self.sieve.known())

    def _rule_out(self, asks: Iterable[Out]) -> None:
        for ask, first, reason in list(asks):
            self.refusals.setdefault(ask, (first, reason))
            self.turns.refuse(ask)

    def _hold_back(self, turn: Turn, longest_s: float, blocker: JobId) -> None:
        """The job fits, but would delay *blocker*; those of its lane that run no more than *longest_s* may do."""
        ask, backfill = turn.ask, self.view.policy.backfill
        reason = HeldBack(blocker) if backfill else InLine(blocker)
        self._block(turn, for_room=False)
        if not 0 < longest_s < turn.pending.said_s:
            self._refuse(turn, reason)
            return
        self.refusals.setdefault(ask, (turn.pending.job.id, reason))
        # Jobs of unknown length that take whole nodes are thought to be short, and this one is not one of them.
        short = backfill is not None and not math.isinf(turn.pending.said_s) and longest_s >= backfill.default_time_s
        limit = Limit(longest_s, unsaid=short and bool(territory(self.view, ask).whole))
        if self.tight:
            self.turns.shorten(turn, limit)  # another one's best place may be a better one
        elif ask.lengths[0] > longest_s and not limit.unsaid:
            self.turns.refuse(ask)
        else:
            self.turns.limit(turn, limit)

    def _keep_whole(self, turn: Turn, blocker: JobId) -> None:
        """The job would break an idle node that *blocker* needs whole, as would all of its ask; only those may that
        have waited for long enough."""
        self.refusals.setdefault(turn.ask, (turn.pending.job.id, HeldBack(blocker)))
        self.turns.limit(turn, Limit(patience_s=self.whole.patience_s))

    def _refuse(self, turn: Turn, reason: Reason) -> None:
        self.refusals.setdefault(turn.ask, (turn.pending.job.id, reason))
        self.turns.refuse(turn.ask)
