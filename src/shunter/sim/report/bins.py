"""Long series made short without inventing anything: exact means over bins of time, and distributions on few points."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

Piece = tuple[float, float, float]
"""From when, until when, and how much: a value that holds for a while."""


def edges(start_s: float, end_s: float, count: int) -> list[float]:
    """Return the *count* + 1 edges of equal bins, the outer ones exact; none if there is no time between them."""
    if not end_s > start_s:
        return []
    width = (end_s - start_s) / count
    return [*(start_s + number * width for number in range(count)), end_s]


def means(pieces: Iterable[Piece], at: Sequence[float]) -> list[float]:
    """Return the time-weighted mean of the sum of *pieces* in each bin between the edges *at*.

    Time that no piece covers counts as 0, so mean times width, summed over the bins, is the integral of the pieces
    between the outer edges. Pieces may overlap and stick out.
    """
    sums = [0.0] * max(len(at) - 1, 0)
    for start_s, end_s, value in pieces if sums else ():
        begin_s, until_s = max(start_s, at[0]), min(end_s, at[-1])
        if value == 0 or not begin_s < until_s:
            continue
        index = min(bisect_right(at, begin_s) - 1, len(sums) - 1)
        while index < len(sums) and at[index] < until_s:
            sums[index] += value * (min(until_s, at[index + 1]) - max(begin_s, at[index]))
            index += 1
    return [
        total / (right - left) if right > left else 0.0 for total, (left, right) in zip(sums, pairwise(at), strict=True)
    ]


def held(at_s: Sequence[float], values: Iterable[float], end_s: float) -> Iterator[Piece]:
    """Yield each value from its time until the next one's, the last one until *end_s*."""
    return zip(at_s, [*at_s[1:], max(end_s, at_s[-1])] if at_s else [], values, strict=True)


Point = tuple[float, float]
"""A value, and the share of all values that are at most as large."""


def cdf(values: Iterable[float], most: int = 400) -> list[Point]:
    """Return at most *most* exact points of the distribution function of *values*, ascending; negative ones count as 0.

    Zero, the least positive and the greatest value are kept if they occur.
    """
    ordered = sorted(max(value, 0.0) for value in values)
    points = [
        (value, number / len(ordered))
        for number, (value, after) in enumerate(pairwise([*ordered, math.inf]), 1)
        if value != after
    ]
    zeros = 1 if points and points[0][0] == 0 else 0
    return [*points[:zeros], *_thinned(points[zeros:], most - zeros)]


def _thinned(points: list[Point], most: int) -> list[Point]:
    """Return *most* of the points, equally far apart along the curve as it is drawn: x logarithmic, y linear."""
    if len(points) <= most:
        return points
    logs = [math.log(x) for x, _ in points]
    length = logs[-1] - logs[0] or 1.0
    way = [(log - logs[0]) / length + y for log, (_, y) in zip(logs, points, strict=True)]
    kept, step = [0], (way[-1] - way[0]) / (most - 1)
    for index in range(1, len(points) - 1):
        if way[index] >= way[0] + len(kept) * step and len(kept) < most - 1:
            kept.append(index)
    return [points[index] for index in (*kept, len(points) - 1)]
