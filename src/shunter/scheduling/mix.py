"""What people ask for these days: the shapes of live jobs, which fragmentation is measured against.

Counts are kept to the next power of two, so that what was computed for a mix stays true while jobs come and go.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from shunter.domain.job import Request

_SHAPES: Final = 64
"""How many shapes count, the most frequent ones; in known traces 64 cover 95 % of the jobs."""


class Mix:
    """Live jobs by request. `version` changes when the weights do."""

    def __init__(self) -> None:
        self._counts: Counter[Request] = Counter()
        self._weights: tuple[tuple[Request, int], ...] | None = None
        self.version = 0

    def add(self, request: Request) -> None:
        self._change(request, 1)

    def remove(self, request: Request) -> None:
        self._change(request, -1)

    def _change(self, request: Request, by: int) -> None:
        before = self._counts[request]
        after = before + by
        if after:
            self._counts[request] = after
        else:
            del self._counts[request]
        crossed = before.bit_length() != after.bit_length()
        if crossed and request.gpus and self._counts_for(request, max(before, after)):
            self.version += 1
            self._weights = None

    def _counts_for(self, request: Request, count: int) -> bool:
        """Return whether *request*, with *count* jobs at most just now, may be among the shapes that count."""
        if self._weights is None or len(self._weights) < _SHAPES:
            return True
        last, weight = self._weights[-1]
        return _place(request, 1 << count.bit_length()) <= _place(last, weight)

    @property
    def weights(self) -> tuple[tuple[Request, int], ...]:
        """Requests for GPUs with their weights (powers of two, in jobs), heaviest first, ties by what they ask."""
        if self._weights is None:
            found = [(request, 1 << count.bit_length()) for request, count in self._counts.items() if request.gpus]
            found.sort(key=lambda pair: _place(*pair))
            self._weights = tuple(found[:_SHAPES])
        return self._weights


def _place(request: Request, weight: int) -> tuple[object, ...]:
    return -weight, *_sort_key(request)


def _sort_key(request: Request) -> tuple[object, ...]:
    return (
        request.gpus_per_node, request.gpu_milli, request.nodes, request.cpus, request.memory_mib, request.last_gpus,
        request.models, request.labels, request.avoid, request.pool, request.within,
    )  # fmt: skip
