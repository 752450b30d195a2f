"""Pending jobs in the order of the policy, taken lazily: a pass pays for the jobs it looks at, not for the queue.

Queues stand in a heap by their key and that of their first job. Inside a queue, lanes are read in the order of their
heads, which the view keeps; lanes that have moved on in this pass stand in a small heap beside that.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Any

from shunter.domain.ids import JobId
from shunter.scheduling.lanes import Ask, JobKey, Lane, Pending, Queue
from shunter.scheduling.order import Plain
from shunter.scheduling.parts import order_part
from shunter.scheduling.view import View


class Turn:
    """A job whose turn it is. *longest_s* is what its lane is limited to."""

    __slots__ = ("lane", "longest_s", "pending", "queue", "rest", "taken")

    def __init__(self, queue: _QueueTurns, lane: Lane, pending: Pending) -> None:
        self.queue = queue
        self.lane = lane
        self.pending = pending
        self.taken: set[JobId] = set()
        self.longest_s = math.inf
        self.rest: Iterator[tuple[JobKey, Pending]] | None = None

    @property
    def ask(self) -> Ask:
        return self.lane.ask


class Turns:
    """Yields turns. After each, say what became of it: `placed`, `refuse` (the whole ask) or `shorten` (this lane)."""

    def __init__(self, view: View, now_s: float) -> None:
        self._parts = [order_part(name)(view, now_s) for name in view.policy.order]
        self._of_queue = [part.of_queue for part in self._parts if type(part).of_queue is not Plain.of_queue]
        self._asks = len(view.lanes.asks)
        self._view = view
        self._placed = 0
        self._left: dict[int, list[Ask]] | None = None
        self.refused: set[Ask] = set()
        self._heap: list[tuple[Any, JobKey, int, _QueueTurns]] = []
        for number, queue in enumerate(view.lanes.queues.values()):
            turns = _QueueTurns(queue)
            self._heap.append((self._queue_key(turns), turns.key, number, turns))
        heapq.heapify(self._heap)

    def __iter__(self) -> Iterator[Turn]:
        while self._heap and len(self.refused) < self._asks:
            key, head, number, turns = self._heap[0]
            if not turns.settle(self.refused, self._left):
                heapq.heappop(self._heap)
                continue
            if self._placed or turns.key != head:  # what was placed or refused may have put it behind others
                key = self._queue_key(turns)
            if (key, turns.key) == self._heap[0][:2]:
                yield turns.take()
            else:
                heapq.heapreplace(self._heap, (key, turns.key, number, turns))

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

    def skip(self, asks: Iterable[Ask]) -> None:
        """As `refuse`, of many: what is left is looked up and not looked for among the rest."""
        self.refused.update(asks)
        self._left = defaultdict(list)
        for ask in self._view.lanes.asks.values():
            if ask not in self.refused:
                self._left[ask.rank].append(ask)

    def drop(self, turn: Turn) -> None:
        """No other job of the lane of *turn* can start in this pass."""

    def shorten(self, turn: Turn, longest_s: float) -> None:
        """Of the lane of *turn*, only jobs of up to *longest_s* seconds can start."""
        turn.longest_s = longest_s
        turn.queue.put_back(turn)

    def _queue_key(self, turns: _QueueTurns) -> tuple[Any, ...]:
        queue, head = turns.queue, turns.head
        return tuple([key_of(queue, head) for key_of in self._of_queue])


class _QueueTurns:
    """Where a pass is in a queue. `key` is that of the job whose turn it is there, once `settle` was asked."""

    __slots__ = ("_again", "_first", "_left", "_rest", "key", "queue")

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self._rest: Iterator[tuple[JobKey, Lane]] | None = None
        first: tuple[JobKey, Lane] = queue.heads.peekitem(0)
        self._first: tuple[JobKey, Lane] | None = first
        self._again: list[tuple[JobKey, Turn]] = []
        self._left: Mapping[int, list[Ask]] | None = None
        self.key = first[0]

    @property
    def head(self) -> Pending:
        """The job at `key`."""
        if self._first is not None and self._first[0] == self.key:
            head: Pending = self._first[1].jobs[self.key]
            return head
        return self._again[0][1].pending

    def settle(self, refused: set[Ask], left: Mapping[int, list[Ask]] | None) -> bool:
        """Leave out lanes that were refused; return whether any is left. *left*: all asks that are, by class."""
        if left is not None and left is not self._left:
            self._left = left
            self._narrow(left[self.queue.rank])
        while self._first is not None and self._first[1].ask in refused:
            self._advance()
        while self._again and self._again[0][1].ask in refused:
            heapq.heappop(self._again)
        if self._first is not None and (not self._again or self._first[0] < self._again[0][0]):
            self.key = self._first[0]
        elif self._again:
            self.key = self._again[0][0]
        else:
            return False
        return True

    def take(self) -> Turn:
        """Return the turn at `key`. Its lane is out of the queue until it is put back."""
        if self._first is not None and self._first[0] == self.key:
            lane = self._first[1]
            self._advance()
            return Turn(self, lane, lane.jobs[self.key])
        return heapq.heappop(self._again)[1]

    def put_back(self, turn: Turn) -> None:
        """Let the next job follow that *turn*'s lane has: the first, in order, of those short enough."""
        lane = turn.lane
        if math.isinf(turn.longest_s):
            if turn.rest is None:
                turn.rest = iter(lane.jobs.items())
            found = next((item for item in turn.rest if item[1].job.id not in turn.taken), None)
        else:
            short = lane.by_length.irange(maximum=(turn.longest_s, JobId(2**62)))
            keys = (lane.by_length[at] for at in short if at[1] not in turn.taken)
            key = min(keys, default=None)
            found = None if key is None else (key, lane.jobs[key])
        if found is not None:
            turn.pending = found[1]
            heapq.heappush(self._again, (found[0], turn))

    def _narrow(self, left: list[Ask]) -> None:
        """Leave only the lanes of *left* among those that were not taken yet."""
        if self._first is None or len(left) >= len(self.queue.lanes):
            return
        lanes = [lane for ask in left if (lane := self.queue.lanes.get(ask)) is not None]
        heads = [(lane.jobs.peekitem(0)[0], lane) for lane in lanes]
        self._rest = iter(sorted([head for head in heads if head[0] >= self._first[0]], key=itemgetter(0)))
        self._first = next(self._rest, None)

    def _advance(self) -> None:
        if self._rest is None:
            self._rest = iter(self.queue.heads.items())
            next(self._rest)
        self._first = next(self._rest, None)
