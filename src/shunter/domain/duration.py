"""Durations as people write them: `90`, `90s`, `45m`, `2h`, `1h30m`, `2d`, `1:30:00`, `2-00:00:00` (Slurm's form)."""

from __future__ import annotations

import re
from typing import Final

from shunter.errors import InvalidInput

FORMS: Final = "seconds (90), units (45s, 30m, 2h, 1d, 1h30m), H:MM:SS (1:30:00) or D-HH:MM:SS"
_UNITS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_WITH_UNITS: Final = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.ASCII)
_CLOCK: Final = re.compile(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)", re.ASCII)
MAX_S: Final = 366 * 86_400
_MAX_TEXT: Final = 64
"""A longer text is no duration: Python refuses to read a number of over 4,300 digits, with an error of its own."""


def parse_duration(text: str | int, *, field: str) -> int:
    """Return *text* in whole seconds, from 1 to 366 days.

    Raises InvalidInput naming *field*, the value and the forms that work.
    """
    seconds = text if isinstance(text, int) else _seconds(text.strip())
    if seconds is None:
        raise InvalidInput(f"{field}: expected a duration, got {text!r:.60}", field=field, fix=f"write {FORMS}")
    if not 1 <= seconds <= MAX_S:
        raise InvalidInput(f"{field}: expected 1 s to 366 days, got {text!r}", field=field, fix=f"write {FORMS}")
    return seconds


def _seconds(text: str) -> int | None:
    if len(text) > _MAX_TEXT:
        return None
    if text.isascii() and text.isdigit():
        return int(text)
    if text and (match := _WITH_UNITS.fullmatch(text)):
        return sum(int(part or 0) * size for part, size in zip(match.groups(), _UNITS.values(), strict=True))
    if match := _CLOCK.fullmatch(text):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return days * 86_400 + hours * 3_600 + minutes * 60 + seconds
    return None


def format_duration(seconds: float) -> str:
    """Return *seconds* (at least 0) in at most two units: `0.4s`, `12s`, `3m05s`, `2h10m`, `4d03h`, an int as `5s`."""
    seconds = max(seconds, type(seconds)(0))
    if seconds < 9.95 and not isinstance(seconds, int):
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3_600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3_600}h{whole % 3_600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3_600:02d}h"
