"""Why queued jobs wait, from what the leader published last."""

from __future__ import annotations

import time
from typing import Final

import msgspec

from shunter.domain.ids import NodeName
from shunter.domain.job import PRIORITY_RANK, Job, Request
from shunter.domain.phase import Phase, Queued
from shunter.domain.reason import BackingOff, NotYetSeen, Reason, SchedulerFails
from shunter.scheduling.lanes import avoided, forgiven_s
from shunter.scheduling.plan import Decision

_decode: Final = msgspec.json.Decoder(Decision).decode
_NOWHERE: Final[frozenset[NodeName]] = frozenset()


class Reasons:
    """*published* is the leader's text, None before the first one."""

    def __init__(self, published: bytes | None) -> None:
        self._decision = None if published is None else _decode(published)
        found = () if self._decision is None else self._decision.refusals
        self._by_ask: dict[tuple[int, Request, frozenset[NodeName]], Reason] = {
            (one.rank, one.request, frozenset(one.avoid)): one.reason for one in found
        }

    def of(self, job: Job, phase: Phase) -> Reason | None:
        """Return why *job* waits; None if it does not."""
        if not isinstance(phase, Queued):
            return None
        now_s = time.time()
        if phase.not_before_s > now_s:
            return BackingOff(phase.not_before_s, phase.retries)
        if self._decision is not None and self._decision.failing is not None:
            return self._decision.failing
        rank = PRIORITY_RANK[job.priority]
        # An older leader does not say which refusal is for jobs that avoid nodes.
        avoids = avoided(phase) if now_s < forgiven_s(phase) else _NOWHERE
        exact = self._by_ask.get((rank, job.request, avoids))
        return exact or self._by_ask.get((rank, job.request, _NOWHERE)) or NotYetSeen()

    def failing(self, epoch: int) -> SchedulerFails | None:
        """Return how the leader of *epoch* fails; None if it does not, or has not said anything yet."""
        said = self._decision
        return said.failing if said is not None and said.epoch == epoch else None
