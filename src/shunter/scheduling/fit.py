"""Where an attempt fits, and where it fits best: all members on different nodes, or none.

Pools are tried in the order of the class's route, then all of them together for gangs. Inside, each profile is scored
once by the policy's placement parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from operator import itemgetter
from typing import Final

from shunter.domain.ids import JobId, NodeName
from shunter.domain.job import WHOLE_GPU, Request
from shunter.domain.phase import NodeShare
from shunter.scheduling.free_now import FreeNow
from shunter.scheduling.keeper import NO_BARS, Bars
from shunter.scheduling.lanes import Ask
from shunter.scheduling.placement import Candidate
from shunter.scheduling.score import scorer
from shunter.scheduling.shelves import Kind, Ref, least_level, tightly
from shunter.scheduling.territory import Tier, avoided, territory
from shunter.scheduling.view import View

_ODD: Final = 0x9E3779B97F4A7C15
"""2 ** 64 over the golden ratio: a product with it spreads what differs in few bits over all of them."""


class Fitter:
    """Finds places in one pass, in what is *free*."""

    def __init__(self, view: View, free: FreeNow) -> None:
        self._view = view
        self._free = free
        self._scorer = scorer(view)
        self._random = view.policy.ties == "random"
        self._salt = JobId(0), 0

    def place(
        self, ask: Ask, job_id: JobId, *, length_s: float = 0.0, bars: Bars = NO_BARS
    ) -> tuple[NodeShare, ...] | None:
        """Return the shares for a job that runs *length_s*, in rank order; None when its members do not all fit now."""
        request = ask.request
        ground = territory(self._view, ask)
        out = avoided(self._view, ask)
        if bars:
            out |= {name for name, longest in bars.items() if length_s > longest}
        routes = ground.tiers
        if len(routes) > 1 and request.nodes > 1:
            routes = (*routes, ground.kinds)
        for tier in routes:
            if request.nodes == 1:
                best = self._best(tier, request, request.gpus_per_node, job_id, out)
                if best is not None:
                    return (self._share(best, request, request.gpus_per_node),)
            else:
                gang = self._gang(tier, request, job_id, out)
                if gang is not None:
                    return gang
        return None

    def has_room(self, ask: Ask) -> bool:
        """Return whether a job of *ask* might fit now; one for which there is no room certainly does not."""
        request = ask.request
        missing, gpus = request.nodes - bool(request.last_gpus), request.gpus_per_node
        if not gpus:
            return True
        rooms = self._free.rooms(territory(self._view, ask).kinds)
        if request.gpu_milli < WHOLE_GPU:
            return any(profile.fits(request, gpus) for _, _, profile, _ in rooms.rooms)
        if rooms.most < gpus or rooms.total < missing * gpus:
            return False
        for at, _, profile, refs in rooms.rooms:
            if at > gpus and profile.fits(request, gpus):
                missing -= len(refs)
                if missing <= 0:
                    return True
        return False

    def longest(self, ask: Ask, bars: Bars) -> float:
        """Return how long a run of *ask* may be at most to fit now between *bars*, in seconds; 0 if none fits."""
        request = ask.request
        out = avoided(self._view, ask)
        lengths = [
            bars.get(ref[1], math.inf)
            for _, refs, _, _ in self._rated(territory(self._view, ask).kinds, request, request.gpus_per_node)
            for ref in refs
            if ref[1] not in out
        ]
        if len(lengths) < request.nodes:
            return 0.0
        return sorted(lengths, reverse=True)[request.nodes - 1]

    def _best(
        self, kinds: Tier, request: Request, gpus: int, job_id: JobId, out: frozenset[NodeName]
    ) -> Candidate | None:
        """Return the best place for one member of *gpus* devices, not on nodes that are *out*."""
        best: tuple[int, ...] | None = None
        ties: list[tuple[list[Ref], Kind, int]] = []
        for score, refs, kind, device in self._rated(kinds, request, gpus):
            if best is not None and score > best:
                continue
            allowed = [ref for ref in refs if ref[1] not in out] if out else refs
            if not allowed:
                continue
            if score != best:
                best = score
                ties.clear()
            ties.append((allowed, kind, device))
        if best is None:
            return None
        candidates = [(best, self._first(allowed, job_id), kind, device) for allowed, kind, device in ties]
        return min(candidates, key=itemgetter(1))

    def _rated(
        self, kinds: Tier, request: Request, gpus: int
    ) -> Iterator[tuple[tuple[int, ...], list[Ref], Kind, int]]:
        """Yield (score, nodes, what they are, device) for nodes that are alike and have room for a member."""
        scorer = self._scorer
        known = scorer.of(request, gpus)
        least = least_level(request, gpus)
        for at, kind, profile, refs in self._free.rooms(kinds).rooms if least else self._free.all_rooms(kinds):
            if at >= least and profile.fits(request, gpus):
                scores = known.get(kind)
                score, device = (scores and scores.get(profile)) or scorer.learn(kind, profile, request, gpus)
                yield score, refs, kind, device

    def _first(self, refs: Sequence[Ref], job_id: JobId) -> Ref:
        """Return the one of *refs*, in order, that wins the tie."""
        return min([self._shuffled(ref, job_id) for ref in refs]) if self._random else refs[0]

    def _shuffled(self, ref: Ref, job_id: JobId) -> Ref:
        """Return *ref* with a place among ties that nobody can foresee, and that is the same each time."""
        if self._salt[0] != job_id:
            self._salt = job_id, _number(f"{self._view.policy.seed}/{job_id}")
        return float((self._salt[1] ^ _number_of_node(ref[1])) * _ODD % 2**64), ref[1]

    def _gang(
        self, tier: Tier, request: Request, job_id: JobId, out: frozenset[NodeName]
    ) -> tuple[NodeShare, ...] | None:
        if not tightly(request):
            return self._gang_in(tier, request, job_id, out)
        racks: dict[str, list[Kind]] = {}
        for kind in tier:
            racks.setdefault(kind.rack, []).append(kind)
        tries = []
        for rack, kinds in racks.items():
            fit = sum(1 for _ in self._candidates(tuple(kinds), request, request.gpus_per_node, job_id, out))
            tries.append((fit, rack, tuple(kinds)))
        for _, _, kinds_of_rack in sorted(tries):  # the rack first where it leaves the fewest nodes that it could use
            gang = self._gang_in(kinds_of_rack, request, job_id, out)
            if gang is not None:
                return gang
        return None

    def _gang_in(
        self, kinds: Tier, request: Request, job_id: JobId, out: frozenset[NodeName]
    ) -> tuple[NodeShare, ...] | None:
        """Return one share on each of as many nodes as *request* has members; the odd one, if any, comes last."""
        count, gpus = request.nodes - 1 if request.last_gpus else request.nodes, request.gpus_per_node
        if gpus and ((rooms := self._free.rooms(kinds)).most < gpus or rooms.total < count * gpus):
            return None
        candidates = sorted(self._candidates(kinds, request, request.gpus_per_node, job_id, out))
        if len(candidates) < count:
            return None
        chosen = self._scorer.arrange(candidates, count)[:count]
        shares = [self._share(candidate, request, request.gpus_per_node) for candidate in chosen]
        if request.last_gpus:
            used = frozenset(share.node for share in shares)
            last = self._best(kinds, request, request.last_gpus, job_id, out | used)
            if last is None:
                return None
            shares.append(self._share(last, request, request.last_gpus))
        return tuple(shares)

    def _candidates(
        self, kinds: Tier, request: Request, gpus: int, job_id: JobId, out: frozenset[NodeName]
    ) -> Iterator[Candidate]:
        """Yield every node that has room for a member of *gpus* devices."""
        for score, refs, kind, device in self._rated(kinds, request, gpus):
            for ref in refs:
                if ref[1] not in out:
                    yield score, self._shuffled(ref, job_id) if self._random else ref, kind, device

    def _share(self, candidate: Candidate, request: Request, gpus: int) -> NodeShare:
        _, (_, name), _, device = candidate
        devices = self._free.on(name).pick(request, gpus, device) if gpus else ()
        incarnation = self._view.nodes[name].incarnation
        return NodeShare(name, incarnation, devices, request.cpus, request.memory_mib, request.gpu_milli)


def _number(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


@lru_cache(maxsize=100_000)
def _number_of_node(name: NodeName) -> int:
    return _number(name)
