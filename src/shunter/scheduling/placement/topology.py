"""Topology, tightest first: one NVLink island, then one node, then one rack, then as few racks as can be.

A member that fits an island is put where it leaves the least of one; gangs are gathered in the rack where they leave
the fewest nodes. Source: Kueue's topology-aware scheduling (BestFit domain), HiveD's cells (Zhao et al., OSDI'20).
"""

from __future__ import annotations

from collections.abc import Sequence

from shunter.domain.job import WHOLE_GPU, Request
from shunter.scheduling.free import Profile
from shunter.scheduling.placement import Candidate, Plain
from shunter.scheduling.shelves import Kind


class Part(Plain):
    def score(self, kind: Kind, profile: Profile, request: Request, gpus: int, device: int) -> int:
        """Return how many devices more than one island's worth the member reaches over: 0 inside one island."""
        if len(profile.whole) <= 1 or request.gpu_milli < WHOLE_GPU or profile.whole[0] >= gpus:
            return 0
        return gpus - profile.whole[0]

    def arrange(self, candidates: list[Candidate], count: int) -> Sequence[Candidate]:
        if count <= 1:
            return candidates
        racks: dict[str, list[Candidate]] = {}
        for candidate in candidates:
            racks.setdefault(candidate[2].rack, []).append(candidate)
        if len(racks) <= 1:
            return candidates
        enough = [rack for rack in racks if len(racks[rack]) >= count]
        if enough:
            best = min(enough, key=lambda rack: (len(racks[rack]), rack))
            return racks[best]
        fullest = sorted(racks, key=lambda rack: (-len(racks[rack]), rack))
        return [candidate for rack in fullest for candidate in racks[rack]]
