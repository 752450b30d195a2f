"""From samples to the numbers of a figure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Final

ENOUGH_FOR_P99: Final = 100
"""Below so many samples the 99th percentile is only another name for the largest."""


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the smallest sample that at least *percent* of the samples do not exceed (nearest rank)."""
    if not samples:
        raise ValueError("a percentile needs at least one sample")
    rank = max(math.ceil(percent / 100 * len(samples)), 1)
    return sorted(samples)[rank - 1]


def summary(samples: Sequence[float]) -> dict[str, float | int | None]:
    """Return n, median, min, max and p99 (None below ENOUGH_FOR_P99 samples)."""
    return {
        "n": len(samples),
        "median": rounded(statistics.median(samples)),
        "min": rounded(min(samples)),
        "max": rounded(max(samples)),
        "p99": rounded(percentile(samples, 99)) if len(samples) >= ENOUGH_FOR_P99 else None,
    }


def by_repetition(rounds: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Return the spread over repetitions: median and, where there are enough samples, p99 of each."""
    spread = {"median_by_repetition": [rounded(statistics.median(samples)) for samples in rounds]}
    if all(len(samples) >= ENOUGH_FOR_P99 for samples in rounds):
        spread["p99_by_repetition"] = [rounded(percentile(samples, 99)) for samples in rounds]
    return spread


def rounded(value: float) -> float:
    """Return *value* with four significant digits, or all digits before the point where there are more."""
    if value == 0 or not math.isfinite(value):
        return value
    return round(value, max(3 - math.floor(math.log10(abs(value))), 0))
