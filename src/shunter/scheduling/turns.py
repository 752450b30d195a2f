"""Pending jobs in the order of the policy, taken lazily: a pass pays for the jobs it looks at, not for the queue.

Queues stand in a heap by their key and that of their first job. Inside a queue, lanes are read in the order of their
heads, which the view keeps; lanes that have moved on in this pass stand in a small heap beside that.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any, Final

from msgspec import Struct

from shunter.domain.ids import JobId
from shunter.scheduling.lanes import Ask, JobKey, Lane, Pending, Queue
from shunter.scheduling.order import Plain
from shunter.scheduling.parts import order_part
from shunter.scheduling.view import View

_MANY: Final = 16
"""After so many queues that were over when their turn came, the others are looked at."""


class Limit(Struct, frozen=True):
    """Only jobs of up to *longest_s* may start, with *unsaid* also those of which nobody said how long they run, and
    only those that have waited for *patience_s*."""

    longest_s: float = math.inf
    unsaid: bool = True
    patience_s: float = -math.inf

    def leaves_out(self, pending: Pending, now_s: float) -> bool:
        too_long = pending.said_s > self.longest_s and not (self.unsaid and math.isinf(pending.said_s))
        return too_long or self.too_young(pending, now_s)

    def too_young(self, pending: Pending, now_s: float) -> bool:
        return pending.phase.since_s + self.patience_s > now_s


class Turn:
    """A job whose turn it is. *limit* is what its lane is limited to."""

    __slots__ = ("lane", "limit", "pending", "queue", "rest", "taken")

    def __init__(self, queue: _QueueTurns, lane: Lane, pending: Pending) -> None:
        self.queue = queue
        self.lane = lane
        self.pending = pending
        self.taken: set[JobId] = set()
        self.limit: Limit | None = None
        self.rest: Iterator[tuple[JobKey, Pending]] | None = None

    @property
    def ask(self) -> Ask:
        return self.lane.ask


class Turns:
    """Yields turns. After each, say what became of it: `placed`, `refuse` or `limit` (the whole ask) or `shorten` (its
    lane). *too_young_s*: since when the first of those has waited (wall clock) whom a limit on that left out."""

    def __init__(self, view: View, now_s: float) -> None:
        self._parts = [order_part(name)(view, now_s) for name in view.policy.order]
        self._parts_of_queues = [part for part in self._parts if type(part).of_queue is not Plain.of_queue]
        self._view = view
        self.now_s = now_s
        self._placed = 0
        self.refused: set[Ask] = set()
        self._left = sum(ask.bit for ask in view.lanes.asks.values())
        """The bits of the asks that are not refused."""
        self.limits: dict[Ask, Limit] = {}
        self.too_young_s = math.inf
        self._heap: list[tuple[Any, JobKey, int, Queue]] = []
        self._queues: dict[int, _QueueTurns] = {}

    def __iter__(self) -> Iterator[Turn]:
        if self._left:
            self._line_up()
        over = 0
        while self._heap and self._left:
            key, head, number, queue = self._heap[0]
            turns = self._queues.get(number)
            if turns is None:
                turns = self._queues[number] = _QueueTurns(queue)
            if not (queue.bits & self._left and turns.settle(self)):
                heapq.heappop(self._heap)
                over += 1
                if over == _MANY:
                    over = 0
                    self._leave_out()
                continue
            if self._placed or turns.key != head:  # what was placed or refused may have put it behind others
                key = self._queue_key(queue, turns.head)
            if (key, turns.key) == self._heap[0][:2]:
                yield turns.take()
            else:
                heapq.heapreplace(self._heap, (key, turns.key, number, queue))

    def _leave_out(self) -> None:
        """Leave out queues of which every ask was refused: that costs less than each one's turn."""
        self._heap = [entry for entry in self._heap if entry[3].bits & self._left]
        heapq.heapify(self._heap)

    def _line_up(self) -> None:
        queues = list(self._view.lanes.queues.values())
        firsts = [queue.first for queue in queues]
        heads = [head for _, head in firsts]
        columns = [part.of_queues(queues, heads) for part in self._parts_of_queues]
        keys = zip(*columns, strict=True) if columns else repeat(())
        rows = zip(keys, firsts, queues, strict=False)
        self._heap = [(key, first[0], number, queue) for number, (key, first, queue) in enumerate(rows)]
        heapq.heapify(self._heap)

    def placed(self, turn: Turn) -> None:
        """The job of *turn* starts now; the next one of its lane follows."""
        for part in self._parts:
            part.placed(turn.queue.queue, turn.pending)
        self._placed += 1
        turn.taken.add(turn.pending.job.id)
        turn.queue.put_back(turn)

    def refuse(self, ask: Ask) -> None:
        """No job of *ask* can start in this pass: what is free only shrinks."""
        self.refused.add(ask)
        self._left &= ~ask.bit

    def limit(self, turn: Turn, limit: Limit) -> None:
        """Of the ask of *turn*, only jobs within *limit* can start; of a lane whose first has not waited for long
        enough, none. The job of *turn* must be outside."""
        before = self.limits.get(turn.ask, Limit())
        self.limits[turn.ask] = Limit(
            min(before.longest_s, limit.longest_s),
            before.unsaid and limit.unsaid,
            max(before.patience_s, limit.patience_s),
        )
        turn.queue.go_on(turn, self)

    def shorten(self, turn: Turn, limit: Limit) -> None:
        """As `limit`, but only of the lane of *turn*, and only as to length."""
        turn.limit = limit
        turn.queue.put_back(turn)

    def _queue_key(self, queue: Queue, head: Pending) -> tuple[Any, ...]:
        return tuple([part.of_queue(queue, head) for part in self._parts_of_queues])


class _QueueTurns:
    """Where a pass is in a queue. `key` is that of the job whose turn it is there, once `settle` was asked."""

    __slots__ = ("_again", "_at", "_lanes", "key", "queue")

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self._lanes = queue.in_order
        self._at = 0
        """Where in `_lanes` the next one stands that was not taken yet."""
        self._again: list[tuple[JobKey, Turn]] = []
        self.key = self._lanes[0][0]

    @property
    def head(self) -> Pending:
        """The job at `key`."""
        if self._fresh:
            head: Pending = self._lanes[self._at][1].jobs[self.key]
            return head
        return self._again[0][1].pending

    @property
    def _fresh(self) -> bool:
        return self._at < len(self._lanes) and self._lanes[self._at][0] == self.key

    def settle(self, turns: Turns) -> bool:
        """Leave out what was refused, and what is beyond a limit; return whether any is left."""
        refused, limits, lanes = turns.refused, turns.limits, self._lanes
        while self._at < len(lanes):
            key, lane = lanes[self._at]
            if lane.ask not in refused:
                limit = limits.get(lane.ask)
                pending = lane.jobs[key]
                if limit is None or not limit.leaves_out(pending, turns.now_s):
                    break
                self.go_on(Turn(self, lane, pending), turns)
            self._at += 1
        while self._again:
            turn = self._again[0][1]
            if turn.ask in refused:
                heapq.heappop(self._again)
                continue
            limit = limits.get(turn.ask)
            if limit is None or not limit.leaves_out(turn.pending, turns.now_s):
                break
            heapq.heappop(self._again)
            self.go_on(turn, turns)
        if self._at < len(lanes) and (not self._again or lanes[self._at][0] < self._again[0][0]):
            self.key = lanes[self._at][0]
        elif self._again:
            self.key = self._again[0][0]
        else:
            return False
        return True

    def take(self) -> Turn:
        """Return the turn at `key`. Its lane is out of the queue until it is put back."""
        if self._fresh:
            lane = self._lanes[self._at][1]
            self._at += 1
            return Turn(self, lane, lane.jobs[self.key])
        return heapq.heappop(self._again)[1]

    def go_on(self, turn: Turn, turns: Turns) -> None:
        """Leave out the job of *turn*, which is beyond the limit of its ask, and those after it that also are."""
        limit = turns.limits[turn.ask]
        if limit.too_young(turn.pending, turns.now_s):
            turns.too_young_s = min(turns.too_young_s, turn.pending.phase.since_s)
            return
        turn.limit = limit
        self.put_back(turn)

    def put_back(self, turn: Turn) -> None:
        """Let the next job follow that *turn*'s lane has: the first, in order, of those short enough."""
        lane, limit = turn.lane, turn.limit
        if limit is None or math.isinf(limit.longest_s):
            if turn.rest is None:
                turn.rest = iter(lane.jobs.items())
            found = next((item for item in turn.rest if item[1].job.id not in turn.taken), None)
        else:
            short = lane.by_length.irange(maximum=(limit.longest_s, JobId(2**62)))
            unsaid = lane.by_length.irange(minimum=(math.inf, JobId(0))) if limit.unsaid else ()
            keys = (lane.by_length[at] for at in chain(short, unsaid) if at[1] not in turn.taken)
            key = min(keys, default=None)
            found = None if key is None else (key, lane.jobs[key])
        if found is not None:
            turn.pending = found[1]
            heapq.heappush(self._again, (found[0], turn))
