"""Until when members may run, and the clock that their limits go by: it stands still while they may not."""

from __future__ import annotations

from collections.abc import Callable

from shunter.runtime.process import boot_time_s


class Term:
    """The lease as this process knows it. *until_s* is in seconds of *clock*, CLOCK_BOOTTIME; None is for ever.

    *lost_s* is for how long members could not run so far.
    """

    def __init__(
        self, clock: Callable[[], float] = boot_time_s, until_s: float | None = None, lost_s: float = 0.0
    ) -> None:
        self.until_s = until_s
        self.lost_s = lost_s
        self._clock = clock

    def closed(self) -> bool:
        """Whether it has passed: nothing may start, nothing may run."""
        return self.until_s is not None and self._clock() >= self.until_s

    def run_s(self) -> float:
        """Seconds that members could have run, from an arbitrary point: time limits and graces are measured by it."""
        return self._run_s(self._clock())

    def _run_s(self, now_s: float) -> float:
        return (now_s if self.until_s is None else min(now_s, self.until_s)) - self.lost_s

    def stood_s(self) -> float:
        """Seconds that members could not run, from an arbitrary point."""
        now_s = self._clock()
        return now_s - self._run_s(now_s)

    def renew(self, until_s: float | None) -> None:
        """Let them run until *until_s*; one in the past ends the term now, and what has run is not taken back."""
        now_s = self._clock()
        self.lost_s = self.stood_s()
        self.until_s = None if until_s is None else max(until_s, now_s)
