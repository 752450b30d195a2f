"""Best fit: the node with the least free GPUs that holds the job, so that wide jobs keep finding whole nodes."""

from __future__ import annotations

from shunter.domain.job import Request
from shunter.scheduling.free import Profile
from shunter.scheduling.placement import Plain
from shunter.scheduling.shelves import Kind


class Part(Plain):
    def score(self, kind: Kind, profile: Profile, request: Request, gpus: int, device: int) -> int:
        return profile.milli
