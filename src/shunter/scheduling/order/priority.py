"""Priority classes: a higher class goes first, whoever it is."""

from __future__ import annotations

from collections.abc import Sequence

from shunter.scheduling.lanes import Pending, Queue
from shunter.scheduling.order import Plain


class Part(Plain):
    def of_queue(self, queue: Queue, head: Pending) -> int:
        return queue.rank

    def of_queues(self, queues: Sequence[Queue], heads: Sequence[Pending]) -> list[int]:
        return [queue.rank for queue in queues]
