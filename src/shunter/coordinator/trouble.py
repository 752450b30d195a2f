"""A leader whose work fails: since when, how often, with what, and when it tries again by itself."""

from __future__ import annotations

import time
import traceback
from typing import Final

import structlog

from shunter.domain.reason import SchedulerFails

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0
MAX_ERROR_CHARS: Final = 300

log = structlog.get_logger("coordinator")


class Trouble:
    """Failures one after the other, until something works again. *now_s* is of a clock that never steps back."""

    def __init__(self) -> None:
        self.said: SchedulerFails | None = None
        """What people are told; None while all is well."""
        self._logged: set[tuple[str, str]] = set()
        self._pause_s = self._again_s = 0.0

    def failed(self, error: Exception, now_s: float) -> bool:
        """Count *error*, log it if it is a new one, and return whether it is the first after all was well.

        What fails at the same place in the same way is the same failure, whatever numbers its message has.
        """
        before = self.said
        if before is None:
            self.said = SchedulerFails(time.time(), 1, one_line(error))
        else:
            self.said = SchedulerFails(before.since_s, before.times + 1, one_line(error))
        if before is None or now_s >= self._again_s:  # what changes meanwhile brings failures, too: they prove nothing
            self._pause_s = min(max(self._pause_s * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
            self._again_s = now_s + self._pause_s
        kind = type(error).__name__, _place(error)
        if kind not in self._logged:
            self._logged.add(kind)
            log.exception("scheduling failed; nothing new starts", error=self.said.error, exc_info=error)
        return before is None

    def worked(self) -> None:
        """Forget it all."""
        if self.said is not None:
            log.info("scheduling works again", failures=self.said.times, after_s=round(time.time() - self.said.since_s))
            self.said = None
            self._logged.clear()
            self._pause_s = 0.0

    def due(self, now_s: float) -> bool:
        """Return whether it is time to try again though nothing has changed."""
        return self.said is not None and now_s >= self._again_s


def one_line(error: Exception) -> str:
    """Return type and message of *error* in one line that is fit for everybody's tables."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return "".join(char if char.isprintable() else "?" for char in text)[:MAX_ERROR_CHARS]


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
