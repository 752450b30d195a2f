"""What is measured while a simulation runs. All figures are exact integrals over time, none is sampled.

*wait* is start minus submission, *completion* end minus submission. Percentiles interpolate linearly between order
statistics (numpy's default). "While waiting" is the time during which at least one job is queued.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from shunter.domain.ids import NodeName
from shunter.domain.job import PRIORITY_RANK, WHOLE_GPU, Job, Request
from shunter.scheduling.placement.fragmentation import Uses
from shunter.scheduling.view import View
from shunter.sim.result import Moment


class Fragmentation:
    """FGD's fragmentation of a fleet: how many of its free GPUs a typical job of the trace cannot use, as expected."""

    def __init__(self, view: View, requests: Sequence[Request]) -> None:
        counts = Counter(request for request in requests if request.gpus)
        self._uses = Uses(tuple(counts.items()))
        self._jobs = counts.total()
        self._by_node: dict[NodeName, int] = {}
        self._view = view
        self._total = 0
        for name in view.places:
            self.changed(name)

    @property
    def gpus(self) -> float:
        return self._total / (WHOLE_GPU * self._jobs) if self._jobs else 0.0

    def changed(self, name: NodeName) -> None:
        """Take note that something else is free on node *name* now."""
        kind, _, profile = self._view.places[name]
        amount = self._uses.of(kind).fragmentation(profile)
        self._total += amount - self._by_node.get(name, 0)
        self._by_node[name] = amount


class Meter:
    """Integrates the state of the cluster over time. With *keep*, it also keeps each state as a moment."""

    def __init__(self, capacity: int, first_s: float, last_s: float, *, keep: bool) -> None:
        self._capacity_milli = capacity * WHOLE_GPU
        self._window = first_s, last_s
        self._keep = keep
        self._at_s = first_s
        self._used_milli = 0
        self._waiting = [0, 0, 0]
        self.frag_gpus = 0.0
        self._used_in_window = self._waiting_s = self._free_while_waiting = self._frag_while_waiting = 0.0
        self.moments: list[Moment] = []

    def advance(self, now_s: float) -> None:
        """The state has been what it is now since the last call, until *now_s*."""
        span = now_s - self._at_s
        if span <= 0:
            return
        if self._at_s < self._window[1]:
            self._used_in_window += self._used_milli * (min(now_s, self._window[1]) - self._at_s)
        if any(self._waiting):
            self._waiting_s += span
            self._free_while_waiting += (self._capacity_milli - self._used_milli) * span
            self._frag_while_waiting += self.frag_gpus * WHOLE_GPU * span
        self._note()
        self._at_s = now_s

    def close(self) -> None:
        """The state is what it is now for good."""
        self._note()

    def _note(self) -> None:
        if self._keep:
            high, medium, low = self._waiting
            self.moments.append(Moment(self._at_s, self._used_milli / WHOLE_GPU, (high, medium, low), self.frag_gpus))

    def submitted(self, job: Job) -> None:
        self._waiting[PRIORITY_RANK[job.priority]] += 1

    def started(self, job: Job) -> None:
        self._waiting[PRIORITY_RANK[job.priority]] -= 1
        self._used_milli += job.request.milli

    def ended(self, job: Job) -> None:
        self._used_milli -= job.request.milli

    @property
    def util_window(self) -> float:
        """GPU-seconds used between the first and the last submission, over capacity; 0 if no time passed."""
        span = self._window[1] - self._window[0]
        whole = self._capacity_milli * span
        return self._used_in_window / whole if span > 0 and whole else 0.0

    @property
    def alloc_while_waiting(self) -> float:
        """1 minus the mean share of free GPUs while at least one job waits; 1 if none ever does."""
        whole = self._waiting_s * self._capacity_milli
        return 1.0 - self._free_while_waiting / whole if whole else 1.0

    @property
    def frag_fgd(self) -> float:
        """Mean fragmentation while at least one job waits, over capacity; 0 if none ever does."""
        whole = self._waiting_s * self._capacity_milli
        return self._frag_while_waiting / whole if whole else 0.0


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which *share* (0 to 1) of *ordered* (ascending) lies; 0 of nothing."""
    if not ordered:
        return 0.0
    at = share * (len(ordered) - 1)
    low, high = math.floor(at), math.ceil(at)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)
