"""The decision: which pending jobs start now, where, and why the others do not.

A pure function of (view, policy, now). It reads as the numbered steps of one pass:

1. take pending jobs in the policy's order (turns.py, order/);
2. place each where the policy's placement likes it best, all members or none (fit.py, placement/);
3. a job that does not fit speaks for all that ask for the same, for what is free only shrinks within a pass;
4. it is kept a place: by a reservation that jobs behind it must not delay (backfill.py) or, without backfill, by
   nothing behind it starting on nodes that it might use.
"""

from __future__ import annotations

from collections import Counter

from shunter.domain.ids import JobId
from shunter.domain.phase import NodeShare
from shunter.domain.reason import HeldBack, InLine, NeverFits, NoNodes, NotEnoughFree, Reason
from shunter.scheduling.backfill import Backfill
from shunter.scheduling.estimate import length_s
from shunter.scheduling.fit import Fitter
from shunter.scheduling.free_now import FreeNow
from shunter.scheduling.keeper import Keeper
from shunter.scheduling.lanes import Ask, Pending
from shunter.scheduling.line import Line
from shunter.scheduling.plan import Placement, Plan, Refusal
from shunter.scheduling.policy import Policy
from shunter.scheduling.shelves import least_idle
from shunter.scheduling.territory import avoided, big_enough, territory
from shunter.scheduling.turns import Turn, Turns
from shunter.scheduling.view import View, takes_whole
from shunter.scheduling.wholeness import Wholeness


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
        self.placed: Counter[Ask] = Counter()
        self.hopeless: list[Ask] = []

    def run(self) -> Plan:
        if self.view.policy.backfill is not None:
            self.hopeless = [ask for ask in self.view.lanes.asks.values() if not self.fitter.has_room(ask)]
            self._skip()
        for turn in self.turns:
            self._start(turn)
        refusals = tuple(
            Refusal(ask.rank, ask.request, first, ask.count - self.placed[ask], reason)
            for ask, (first, reason) in self.refusals.items()
        )
        return Plan(tuple(self.placements), refusals, self.keeper.made, self.whole.again_s)

    def _start(self, turn: Turn) -> None:
        """Place the job of *turn* if it fits and delays nobody before it; else say why it waits."""
        ask, pending = turn.ask, turn.pending
        blocker = self.keeper.shut(ask)
        if blocker is not None:
            self._refuse(turn, InLine(blocker))
            return
        shares = self.fitter.place(ask, pending.job.id)
        if shares is None:
            self._wait(turn)
            return
        if self.whole.breaks(shares, pending):
            blocker = self.whole.blocker(shares)
            elsewhere = self.fitter.place(ask, pending.job.id, bars=self.whole.bars())
            if elsewhere is None:
                self._refuse_lane(turn, HeldBack(blocker))
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
        self.placed[turn.ask] += 1
        self.turns.placed(turn)

    def _wait(self, turn: Turn) -> None:
        """The job does not fit what is free: keep it a place, unless it fits nothing that is here."""
        reason = why_not(turn.ask, self.view, self.free)
        if isinstance(reason, NotEnoughFree):
            news = not (self.keeper.knows(turn.ask) and self.whole.knows(turn.ask))
            self.keeper.block(turn.ask, turn.pending)
            self.whole.block(turn.ask, turn.pending)
            if news and self.hopeless:
                self._skip()
        self._refuse(turn, reason)

    def _skip(self) -> None:
        """Refuse what has no room without waiting for its turn, once it makes no difference that it is blocked."""
        known = [ask for ask in self.hopeless if self.keeper.knows(ask) and self.whole.knows(ask)]
        skipped = sorted(
            (ask for ask in known if ask not in self.turns.refused), key=lambda ask: (ask.rank, ask.ids[0])
        )
        for ask in skipped:
            self.refusals[ask] = ask.ids[0], why_not(ask, self.view, self.free)
        if skipped:
            self.turns.skip(skipped)
        if known:
            gone = set(known)
            self.hopeless = [ask for ask in self.hopeless if ask not in gone]

    def _hold_back(self, turn: Turn, longest_s: float, blocker: JobId) -> None:
        """The job fits, but would delay *blocker*; those of its lane that run no more than *longest_s* may do."""
        reason = HeldBack(blocker) if self.view.policy.backfill else InLine(blocker)
        self.keeper.block(turn.ask, turn.pending)
        if 0 < longest_s < turn.pending.said_s:
            self.refusals.setdefault(turn.ask, (turn.pending.job.id, reason))
            self.turns.shorten(turn, longest_s)
        else:
            self._refuse(turn, reason)

    def _refuse_lane(self, turn: Turn, reason: Reason) -> None:
        """The first of a lane may not start, so none of it may; the same ask of another owner may."""
        self.refusals.setdefault(turn.ask, (turn.pending.job.id, reason))
        self.turns.drop(turn)

    def _refuse(self, turn: Turn, reason: Reason) -> None:
        self.refusals.setdefault(turn.ask, (turn.pending.job.id, reason))
        self.turns.refuse(turn.ask)


def why_not(ask: Ask, view: View, free: FreeNow) -> Reason:
    """Return why *ask* was refused with *free* left, in numbers of the nodes that it may use."""
    if not view.places:
        cordoned = sum(bool(node.cordoned) for node in view.nodes.values())
        return NoNodes(cordoned, len(view.nodes) - cordoned)
    request = ask.request
    able = big_enough(view, ask)
    if able is not None:
        return NeverFits(request.nodes, request.gpus_per_node, able)
    fit = most = total = 0
    out = avoided(view, ask)
    least = min(least_idle(request, request.gpus_per_node), 1)  # most nodes of a full cluster count for nothing
    for kind in territory(view, ask).kinds:
        for idle, level in enumerate(free.shelf(kind).by_idle[least:], least):
            for profile, refs in level.items():
                if count := sum(name not in out for _, name in refs) if out else len(refs):
                    most = max(most, idle)
                    total += idle * count
                    fit += count * profile.fits(request, request.gpus_per_node)
    return NotEnoughFree(request.nodes, request.gpus_per_node, fit, most, total)
