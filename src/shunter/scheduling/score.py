"""How good each place is, by the policy's placement parts. What was found is kept until the mix changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from shunter.domain.job import WHOLE_GPU, Request
from shunter.scheduling.free import Profile
from shunter.scheduling.parts import placement_part
from shunter.scheduling.placement import Candidate, PlacementPart
from shunter.scheduling.shelves import Kind
from shunter.scheduling.view import View

_KEPT: Final = 100_000

Score = tuple[tuple[int, ...], int]
"""(score, device to cut a share from; a whole one for whole GPUs)."""


class Scorer:
    """Scores of one view, for one mix."""

    def __init__(self, view: View) -> None:
        self._parts: tuple[PlacementPart, ...] = tuple(placement_part(name)(view) for name in view.policy.placement)
        self._known: dict[tuple[Request, int], dict[Kind, dict[Profile, Score]]] = {}
        self._count = 0
        self.version = view.mix.version

    def of(self, request: Request, gpus: int) -> dict[Kind, dict[Profile, Score]]:
        """Return what is known for members of *request* that take *gpus* devices; `learn` adds to it."""
        return self._known.setdefault((request, gpus), {})

    def learn(self, kind: Kind, profile: Profile, request: Request, gpus: int) -> Score:
        """Return, and keep, the score of the best way to give such a node to a member."""
        if self._count >= _KEPT:
            self._known.clear()
            self._count = 0
        self._count += 1
        devices = (WHOLE_GPU,) if request.gpu_milli == WHOLE_GPU else profile.devices(request)
        score = min(
            (tuple([part.score(kind, profile, request, gpus, device) for part in self._parts]), device)
            for device in devices
        )
        self.of(request, gpus).setdefault(kind, {})[profile] = score
        return score

    def arrange(self, candidates: Sequence[Candidate], count: int) -> Sequence[Candidate]:
        """Return *candidates*, best first, in the order in which a gang of *count* members should take them."""
        for part in self._parts:
            candidates = part.arrange(list(candidates), count)
        return candidates


def scorer(view: View) -> Scorer:
    """Return the scorer for *view* as it is now."""
    known: Scorer | None = view.fleet.scorer
    if known is None or known.version != view.mix.version:
        known = view.fleet.scorer = Scorer(view)
    return known
