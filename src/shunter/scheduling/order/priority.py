"""Priority classes: a higher class goes first, whoever it is."""

from __future__ import annotations

from shunter.scheduling.lanes import Pending, Queue
from shunter.scheduling.order import Plain


class Part(Plain):
    def of_queue(self, queue: Queue, head: Pending) -> int:
        return queue.rank
