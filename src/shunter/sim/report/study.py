"""The results, binned: what the charts over time draw. All policies share one axis, from the first submission on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from shunter.domain.job import Priority
from shunter.sim.report.bins import Piece, edges, held, means
from shunter.sim.result import Result, Run

BINS: Final = 600
"""Bins on the axis of time; also how many steps a line has at most."""


class Curves(Struct, frozen=True):
    """One policy, as means over each bin; shares are of all GPUs (1 is all of them), *waiting* counts jobs by class.

    *most_waiting* is that of any moment, *mean_waiting* that of the whole axis.
    """

    policy: str
    used: list[float]
    fragmented: list[float]
    waiting: dict[Priority, list[float]]
    most_waiting: int
    mean_waiting: float


class Study(Struct, frozen=True):
    """Several policies on one axis: *edges* are those of the bins in trace time, none if no time passed.

    *classes* are those of which a job ran or waited, highest first; *submitted_s* is the last submission.
    """

    results: Sequence[Result]
    edges: list[float]
    submitted_s: float
    classes: list[Priority]
    curves: list[Curves]

    @property
    def length_s(self) -> float:
        return self.edges[-1] - self.edges[0] if self.edges else 0.0

    @property
    def since_s(self) -> float | None:
        """When the last job was submitted, from the start of the axis; None if that is its end or there is none."""
        if not self.edges or not self.edges[0] < self.submitted_s < self.edges[-1]:
            return None
        return self.submitted_s - self.edges[0]


def study(results: Sequence[Result]) -> Study:
    """Return *results* binned. Before a policy's first moment its cluster is empty; its last one lasts to the end."""
    starts = [at for result in results for at in (*_times(result)[:1], *(run.submit_s for run in result.runs))]
    at = edges(min(starts, default=0.0), max(map(_end_s, results), default=0.0), BINS)
    submitted_s = max((run.submit_s for result in results for run in result.runs), default=0.0)
    classes = _classes(results)
    return Study(results, at, submitted_s, classes, [_curves(result, at, classes) for result in results])


def _times(result: Result) -> list[float]:
    return [moment.at_s for moment in result.moments]


def _end_s(result: Result) -> float:
    """Return when the last job ended."""
    return max((*_times(result)[-1:], *(run.end_s for run in result.runs)), default=0.0)


def _classes(results: Sequence[Result]) -> list[Priority]:
    ran = {run.priority for result in results for run in result.runs}
    most = [0, 0, 0]
    for result in results:
        for moment in result.moments:
            if any(moment.waiting):
                most = [max(pair) for pair in zip(most, moment.waiting, strict=True)]
    return [priority for priority, waiting in zip(Priority, most, strict=True) if waiting or priority in ran]


def _curves(result: Result, at: list[float], classes: Sequence[Priority]) -> Curves:
    times, gpus = _times(result), sum(result.nodes.values()) or 1
    end_s = at[-1] if at else 0.0

    def binned(values: Iterable[float]) -> list[float]:
        return means(held(times, values, end_s), at)

    waiting = {
        priority: binned([moment.waiting[index] for moment in result.moments])
        for index, priority in enumerate(Priority)
        if priority in classes
    }
    return Curves(
        policy=result.policy,
        used=binned([moment.used_gpus / gpus for moment in result.moments]),
        fragmented=binned([moment.frag_gpus / gpus for moment in result.moments]),
        waiting=waiting,
        most_waiting=max((sum(moment.waiting) for moment in result.moments), default=0),
        mean_waiting=sum(map(sum, waiting.values())) / BINS if at else 0.0,
    )


# --- nodes ---


def busiest(results: Sequence[Result], most: int) -> list[str]:
    """Return the *most* nodes whose GPUs were in use for the largest share of time over all policies, as listed."""
    gpus = {name: count for result in results for name, count in result.nodes.items() if count > 0}
    busy_s: dict[str, float] = defaultdict(float)
    for result in results:
        for name, pieces in held_gpus(result.runs).items():
            busy_s[name] += sum((end_s - start_s) * value for start_s, end_s, value in pieces)
    ranked = sorted(gpus, key=lambda name: -busy_s[name] / gpus[name])
    chosen = set(ranked[:most])
    return [name for name in gpus if name in chosen]


def held_gpus(runs: Sequence[Run]) -> dict[str, list[Piece]]:
    """Return for each node from when until when how many of its GPUs each job held."""
    pieces: dict[str, list[Piece]] = defaultdict(list)
    for run in runs:
        for share in run.shares:
            pieces[share.node].append((run.start_s, run.end_s, len(share.gpus) * share.gpu_milli / 1_000))
    return pieces
