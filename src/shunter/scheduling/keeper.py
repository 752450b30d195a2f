"""What keeps places for blocked jobs in a pass: `Backfill`, or `Line` where the policy has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from shunter.domain.ids import JobId, NodeName
from shunter.domain.job import Request
from shunter.domain.phase import NodeShare
from shunter.scheduling.lanes import Ask, Pending
from shunter.scheduling.plan import Reservation

Bars = Mapping[NodeName, float]
"""Nodes on which only runs of up to so many seconds may start now."""

NO_BARS: Bars = {}


class Spoilt(NamedTuple):
    """Who would be delayed; a run of up to *within_s* would not have done that."""

    job_id: JobId
    within_s: float


class Keeper(Protocol):
    """Made anew for each pass."""

    @property
    def made(self) -> tuple[Reservation, ...]:
        """The reservations that had to be worked out."""

    def block(self, ask: Ask, pending: Pending) -> None:
        """A job that could run cannot start now."""

    def knows(self, ask: Ask) -> bool:
        """Return whether it makes no difference any more that a job of *ask* is blocked."""

    def holds_back(self, ask: Ask) -> JobId | None:
        """Return for whom every node is kept that has room for a job of *ask*, even for the shortest one; None: not so,
        or hard to say."""

    def shut(self, ask: Ask) -> JobId | None:
        """Return for whom everything that *ask* may use is kept; None if it may look for a place."""

    def spoils(self, shares: tuple[NodeShare, ...], length_s: float) -> Spoilt | None:
        """Return who would have to wait longer if *shares* were given away for *length_s*; None if nobody."""

    def bars(self, request: Request) -> Bars:
        """Return the nodes on which only short runs of *request* may start now, and how short, in seconds."""

    def started(self, job_id: JobId, shares: tuple[NodeShare, ...], length_s: float) -> None:
        """A job that is thought to run *length_s* starts; it spoils nothing."""
