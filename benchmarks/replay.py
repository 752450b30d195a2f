"""The event stream, read back: who held which GPU when, and what breaks a promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from shunter.domain.outcome import Result
from shunter.domain.phase import HOLDS_GPUS, Ended, Phase, Running
from shunter.domain.report import EventView

Slot = tuple[str, int]
"""A GPU: the node's name and the device's index."""


class Replay:
    """Feed it every event from the first one on, in the order of the stream; *problems* are sentences for people."""

    def __init__(self, shape: Mapping[str, int]) -> None:
        self._shape = shape
        self._revs: dict[int, int] = {}
        self._slots: dict[int, frozenset[Slot]] = {}
        self._left_at: dict[Slot, tuple[float, int]] = {}
        self.cursor = "0"
        self.holder: dict[Slot, int] = {}
        self.ended: dict[int, Ended] = {}
        self.moves: Counter[str] = Counter()
        self.at_s: dict[int, dict[str, float]] = {}
        self.most_held = 0
        self.problems: list[str] = []

    def feed(self, events: Iterable[EventView]) -> None:
        for event in events:
            self.cursor = event.id
            if event.job is not None and event.phase is not None:
                self._follow(event, event.job, event.phase)

    def _follow(self, event: EventView, job: int, phase: Phase) -> None:
        self.moves[event.kind] += 1
        self.at_s.setdefault(job, {})[event.kind] = event.at_s
        if event.rev != self._revs.get(job, 0) + 1:
            self.problems.append(f"job {job}: revision {event.rev} follows {self._revs.get(job, 0)} at {event.id}")
        if job in self.ended:
            self.problems.append(f"job {job}: {event.kind} after its end at {event.id}")
        self._revs[job] = event.rev
        before = self._slots.get(job, frozenset())
        now = _slots(phase)
        for slot in before - now:
            if self.holder.get(slot) == job:
                del self.holder[slot]
        for slot in sorted(now - before):
            self._take(slot, job, event.id)
        self.most_held = max(self.most_held, len(self.holder))
        self._slots[job] = now
        if isinstance(phase, Running) and event.kind == "started":
            self._started(job, phase)
        if isinstance(phase, Ended):
            self.ended[job] = phase
            self._slots.pop(job)
            for slot in before:
                self._left_at[slot] = (phase.ended_s, job)

    def _take(self, slot: Slot, job: int, at: str) -> None:
        node, gpu = slot
        if not 0 <= gpu < self._shape.get(node, 0):
            self.problems.append(f"job {job}: was given {node}:{gpu}, which does not exist")
        if slot in self.holder:
            self.problems.append(f"job {job}: was given {node}:{gpu} at {at} while job {self.holder[slot]} held it")
        self.holder[slot] = job

    def _started(self, job: int, phase: Running) -> None:
        """The true end of the last process on a GPU must lie before the next start there: one machine, one clock."""
        for slot in _slots(phase):
            ended_s, last = self._left_at.get(slot, (0.0, 0))
            if phase.started_s < ended_s:
                self.problems.append(f"job {job}: started on {slot[0]}:{slot[1]} before job {last} had ended there")

    def check_succeeded(self, jobs: Iterable[int]) -> list[str]:
        """Return what is wrong with *jobs*, which must all have succeeded with code 0 at the first attempt."""
        wrong = []
        for job in jobs:
            end = self.ended.get(job)
            if end is None:
                wrong.append(f"job {job}: did not end")
            elif (end.outcome.result, end.outcome.code, end.attempt) != (Result.SUCCEEDED, 0, 1):
                wrong.append(f"job {job}: {end.outcome.result}, code {end.outcome.code}, attempt {end.attempt}")
        return wrong


def _slots(phase: Phase) -> frozenset[Slot]:
    if not isinstance(phase, HOLDS_GPUS):
        return frozenset()
    return frozenset((share.node, gpu) for share in phase.allocation.shares for gpu in share.gpus)
