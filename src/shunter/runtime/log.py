"""One structured line per thing that happened, to stderr: readable on a terminal, JSON elsewhere."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

import structlog

from shunter.runtime.process import boot_time_s

AGAIN_S: Final = 60.0


def configure(role: str, *, level: int = logging.INFO) -> None:
    """Set up structlog for a process of *role*; SHUNTER logs name it in every line."""
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    final = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*processors, final],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(role=role)


class Complaint:
    """Trouble that goes on and on: said when it is new or another one, and again each minute. For one thread."""

    def __init__(self) -> None:
        self._said = ""
        self._again_s = 0.0
        self._since_s: float | None = None

    def due(self, text: str) -> bool:
        """Return whether *text* is to be said now."""
        now_s = boot_time_s()
        self._since_s = now_s if self._since_s is None else self._since_s
        if text == self._said and now_s < self._again_s:
            return False
        self._said, self._again_s = text, now_s + AGAIN_S
        return True

    def over(self) -> float | None:
        """Nothing is wrong any more: what comes next is new. Return for how long it was, in seconds, if it was."""
        since_s, self._since_s, self._said = self._since_s, None, ""
        return None if since_s is None else round(boot_time_s() - since_s, 1)
