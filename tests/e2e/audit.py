"""The event stream, replayed: what must hold at every point of it, whatever happened to the processes meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from shunter.domain.event import event_tag
from shunter.domain.job import WHOLE_GPU
from shunter.domain.phase import HOLDS_GPUS, Phase, Queued
from shunter.domain.report import EventView
from shunter.domain.transition import targets

LEGAL: Final[Mapping[tuple[type[Phase], str], type[Phase]]] = {
    (phase, event_tag(event)): target for (phase, event), target in targets().items()
}


class Audit:
    """Feed it every event from the first on; it raises AssertionError at the first that breaks a rule.

    *phases* and *revisions* are where each job is now, *kinds* counts (job, kind of event), *epochs* are the leaders'.
    """

    def __init__(self) -> None:
        self.phases: dict[int, Phase] = {}
        self.revisions: dict[int, int] = {}
        self.kinds: Counter[tuple[int, str]] = Counter()
        self.order: list[tuple[str, int]] = []
        self.epochs: list[int] = []
        self.cursor = "0"
        self._holders: dict[tuple[str, int], dict[int, int]] = {}
        self._shapes: dict[int, tuple[int, ...]] = {}

    def feed(self, events: Iterable[EventView]) -> Audit:
        for event in events:
            assert _order(event.id) > _order(self.cursor), f"{event.id} after {self.cursor}"
            self.cursor = event.id
            if event.job is not None:
                self._job(event, event.job)
            elif event.kind == "leader":
                self.epochs.append(int(event.text.rpartition(" ")[2]))
                assert self.epochs == sorted(set(self.epochs)), f"epochs {self.epochs}"
        return self

    def _job(self, event: EventView, job: int) -> None:
        after = event.phase
        assert after is not None
        before = self.phases.get(job)
        if before is None:
            assert (event.kind, event.rev) == ("submitted", 1), f"job {job} begins with {event}"
            assert isinstance(after, Queued)
        else:
            assert event.rev == self.revisions[job] + 1, f"job {job}: revision {event.rev} after {self.revisions[job]}"
            assert LEGAL.get((type(before), event.kind)) is type(after), f"job {job}: {before} {event.kind} {after}"
        self._hold(job, after)
        self.phases[job], self.revisions[job] = after, event.rev
        self.kinds[job, event.kind] += 1
        self.order.append((event.kind, job))

    def _hold(self, job: int, phase: Phase) -> None:
        """Note what *job* holds from now on; no GPU is given out beyond the whole of it, and members are alike and
        apart."""
        for gpu in [gpu for gpu, shares in self._holders.items() if shares.pop(job, None) and not shares]:
            del self._holders[gpu]
        if not isinstance(phase, HOLDS_GPUS):
            return
        shares = phase.allocation.shares
        assert len(set(phase.allocation.nodes)) == len(shares), f"job {job}: two members on one node: {shares}"
        shape = tuple(len(share.gpus) for share in shares)
        assert len(set(shape)) == 1, f"job {job}: members differ: {shares}"
        assert self._shapes.setdefault(job, shape) == shape, f"job {job}: held {self._shapes[job]}, now {shape}"
        for share in shares:
            for index in share.gpus:
                shares_of = self._holders.setdefault((share.node, index), {})
                shares_of[job] = share.gpu_milli
                assert sum(shares_of.values()) <= WHOLE_GPU, f"GPU {index} of {share.node} is held by {shares_of}"

    # what tests ask

    def shape(self, job: int) -> tuple[int, ...]:
        """Return how many GPUs each member of *job* held whenever it held any; () if it never did."""
        return self._shapes.get(job, ())

    def holding(self) -> dict[tuple[str, int], dict[int, int]]:
        """Return what is held: thousandths by job, by (node, GPU)."""
        return {gpu: dict(shares) for gpu, shares in self._holders.items()}

    def count(self, job: int, kind: str) -> int:
        return self.kinds[job, kind]

    def jobs_in_order_of(self, kind: str) -> list[int]:
        return [job for one, job in self.order if one == kind]

    def check_once(self, *jobs: int) -> None:
        """Each of *jobs* started once and ended once, and nothing was retried."""
        for job in jobs:
            counts = {kind: self.count(job, kind) for kind in ("placed", "started", "exited", "requeued", "returned")}
            assert counts == {"placed": 1, "started": 1, "exited": 1, "requeued": 0, "returned": 0}, f"job {job}"


def _order(entry_id: str) -> tuple[int, int]:
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number or 0)
