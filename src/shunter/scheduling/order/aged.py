"""Age bound: a job that has waited longer than `age_bound_s` goes before all younger ones, oldest first.

So nobody starves, whatever comes after in the order, and a wide job that many narrow ones overtook gets its turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from shunter.scheduling.lanes import Pending, Queue
from shunter.scheduling.order import Plain
from shunter.scheduling.view import View

_YOUNG: Final = (1, 0)


class Part(Plain):
    def __init__(self, view: View, now_s: float) -> None:
        self._before_s = now_s - view.policy.age_bound_s

    def of_queue(self, queue: Queue, head: Pending) -> tuple[int, int]:
        return (0, head.job.id) if head.job.submitted_s <= self._before_s else _YOUNG

    def of_queues(self, queues: Sequence[Queue], heads: Sequence[Pending]) -> list[tuple[int, int]]:
        before_s = self._before_s
        return [(0, head.job.id) if head.job.submitted_s <= before_s else _YOUNG for head in heads]
