"""Who goes first. Each module is one part; a policy's `order` lists them, the first one first.

A part compares queues (an owner's jobs of one class), or the jobs inside them. Keys are compared as tuples, those of
queues before those of jobs; the smaller one goes first, and the job's id decides in the end, for ids grow with
submission.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from shunter.scheduling.lanes import Pending, Queue


class OrderPart(Protocol):
    """One part, made anew for each pass from (view, now). *job_key* gives the key of a job, the same while it waits."""

    job_key: ClassVar[Any]
    """A static function of a pending job, or None."""

    def __init__(self, view: Any, now_s: float) -> None: ...

    def of_queue(self, queue: Queue, head: Pending) -> Any:
        """Return the key of *queue*, whose next job is *head*. A part that tells no queues apart leaves this out."""

    def of_queues(self, queues: Sequence[Queue], heads: Sequence[Pending]) -> list[Any]:
        """Return the keys of *queues* and their *heads*: a pass begins with those of all."""

    def placed(self, queue: Queue, pending: Pending) -> None:
        """A job of *queue* was placed in this pass; keys may grow, never shrink."""


class Plain:
    """A part that has no opinion: what the others start from."""

    job_key: ClassVar[Any] = None

    def __init__(self, view: Any, now_s: float) -> None:
        pass

    def of_queue(self, queue: Queue, head: Pending) -> Any:
        return None

    def of_queues(self, queues: Sequence[Queue], heads: Sequence[Pending]) -> list[Any]:
        return list(map(self.of_queue, queues, heads))

    def placed(self, queue: Queue, pending: Pending) -> None:
        pass
