"""Where a job goes among the nodes where it fits. Each module is one part; a policy's `placement` lists them.

Scores are integers, smaller is better, compared as tuples in the policy's order; equal ones go to the node that joined
first. A score depends on a node's kind and profile alone, so it is computed once for all nodes that are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from shunter.domain.job import Request
from shunter.scheduling.free import Profile
from shunter.scheduling.shelves import Kind, Ref

Candidate = tuple[tuple[int, ...], Ref, Kind, int]
"""(score, node, what it is, device to cut a share from)."""


class PlacementPart(Protocol):
    """One part, made once for a view."""

    def __init__(self, view: Any) -> None: ...

    def score(self, kind: Kind, profile: Profile, request: Request, gpus: int, device: int) -> int:
        """Return how bad it is to give *gpus* devices (or a share of *device*) of such a node to *request*."""

    def arrange(self, candidates: list[Candidate], count: int) -> Sequence[Candidate]:
        """Return *candidates*, best first, in the order in which a gang of *count* members should take them."""


class Plain:
    """A part that has no opinion: what the others start from."""

    def __init__(self, view: Any) -> None:
        pass

    def score(self, kind: Kind, profile: Profile, request: Request, gpus: int, device: int) -> int:
        return 0

    def arrange(self, candidates: list[Candidate], count: int) -> Sequence[Candidate]:
        return candidates
