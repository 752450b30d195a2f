"""What is to be done later, by a clock of one's own."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable


class Timers:
    """*now* gives the seconds that delays are counted in; it may stand still."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        self.at(self._now() + delay_s, action)

    def at(self, when_s: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (when_s, self._count, action))

    def wait_s(self) -> float:
        """Seconds until the next one is due, if the clock runs."""
        return max(self._heap[0][0] - self._now(), 0.0) if self._heap else math.inf

    def run(self) -> None:
        """Do all that is due."""
        while self._heap and self._heap[0][0] <= self._now():
            heapq.heappop(self._heap)[2]()
