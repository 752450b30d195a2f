"""In which order pending jobs are looked at: priority class, then first come, first served.

Groups are merged by a heap over their heads: a pass costs O(groups + placements · log groups), whatever the queue
holds.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from shunter.domain.ids import JobId
from shunter.scheduling.view import Group, Pending, View


class Turns:
    """An iterator over (group, pending job) in claim order; `refuse()` leaves a group out of the pass."""

    def __init__(self, view: View) -> None:
        self._iterators: dict[Group, Iterator[Pending]] = {g: iter(jobs.values()) for g, jobs in view.groups.items()}
        self._refused = False
        self._heap: list[tuple[int, JobId, int, Group, Pending]] = []
        for number, group in enumerate(view.groups):
            self._push(number, group)

    def _push(self, number: int, group: Group) -> None:
        pending = next(self._iterators[group], None)
        if pending is not None:
            # Job ids grow with submission, so the smaller id came first; a retried job keeps its place.
            heapq.heappush(self._heap, (group.rank, pending.job.id, number, group, pending))

    def __iter__(self) -> Iterator[tuple[Group, Pending]]:
        """Yield each turn; call `refuse` before asking for the next one to drop the group."""
        while self._heap:
            _, _, number, group, pending = heapq.heappop(self._heap)
            self._refused = False
            yield group, pending
            if not self._refused:
                self._push(number, group)

    def refuse(self) -> None:
        """The turn just yielded was refused: whatever is free only shrinks, so all of its group would be."""
        self._refused = True
