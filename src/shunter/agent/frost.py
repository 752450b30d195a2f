"""What a node worker hears of its keeper's freezing, for logs and the event stream: nothing is decided here."""

from __future__ import annotations

import structlog
from msgspec import Struct

from shunter.agent.keeper.protocol import Ended, Live, Report
from shunter.domain.duration import format_duration

log = structlog.get_logger("agent")


class Thaw(Struct, frozen=True):
    """*jobs* went on after *for_s* seconds in which they were frozen."""

    jobs: tuple[int, ...]
    for_s: float

    @property
    def text(self) -> str:
        jobs = f"job{'s' * (len(self.jobs) > 1)} {', '.join(map(str, self.jobs))}"
        return f"{jobs} went on after {format_duration(self.for_s)}: frozen while the node had no lease"


class Frost:
    """Feed it all that the keeper reports, then ask `thawed` once that is done for this moment."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._went_on: dict[int, float] = {}
        self._froze: set[int] = set()

    def heard(self, report: Report, boot_s: float) -> None:
        match report:
            case Live(allocation=name, job_id=job, frozen=True) if name not in self._since:
                self._since[name] = boot_s
                self._froze.add(job)
            case Live(allocation=name, job_id=job, frozen=False) if name in self._since:
                self._went_on[job] = boot_s - self._since.pop(name)
            case Ended(allocation=name):
                self._since.pop(name, None)

    def thawed(self) -> Thaw | None:
        """Log what was heard since the last call; return it if jobs went on."""
        if self._froze:
            log.warning("jobs are frozen: no lease", jobs=sorted(self._froze))
            self._froze = set()
        if not self._went_on:
            return None
        thaw = Thaw(tuple(sorted(self._went_on)), max(self._went_on.values()))
        self._went_on = {}
        log.info("jobs go on", jobs=list(thaw.jobs), frozen_s=round(thaw.for_s, 1))
        return thaw
