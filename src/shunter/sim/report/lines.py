"""Charts with one line per policy: shares over time, and distributions over a logarithmic axis of time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from shunter.sim.report.bins import Point, cdf
from shunter.sim.report.markup import Markup, joined, tag
from shunter.sim.report.plot import (
    Drawing,
    Frame,
    label,
    legend,
    look,
    nothing,
    share_ticks,
    steps,
    text_width,
    time_axis,
    value_axis,
)
from shunter.sim.report.study import Curves, Study
from shunter.sim.report.words import duration, percent

_LEFT: Final = 48
_HEIGHT: Final = 250
_NO_TIME: Final = "No time passed in this simulation, so there is nothing to draw."
_TICKS_S: Final = (
    *(10.0**power for power in range(-9, 2)),
    60,
    600,
    3_600,
    18_000,
    *(86_400 * 10.0**n for n in range(8)),
)
"""Times on a logarithmic axis: those that people count in."""


def utilisation(study: Study, width: float) -> Drawing:
    """Return the share of all GPUs in use over time, on a scale from 0 to 100 %."""
    return _over_time(study, "GPUs in use over time", [curves.used for curves in study.curves], width, 1.0)


def fragmentation(study: Study, width: float) -> Drawing:
    """Return over time the share of all GPUs that are free but of no use; the scale ends above the highest bin."""
    return _over_time(study, "Fragmentation over time", [curves.fragmented for curves in study.curves], width, 0.01)


def _over_time(study: Study, title: str, series: list[list[float]], width: float, least: float) -> Drawing:
    if not study.edges:
        return nothing(title, _NO_TIME, width)
    top, ticks = share_ticks(max((*map(max, series), least)))
    key, above = legend(_names(study, series), width)
    frame = Frame(_LEFT, above + 8, width - _LEFT - 16, _HEIGHT)
    parts = [key, *value_axis(frame, top, ticks), *time_axis(frame, study.length_s, study.since_s)]
    for index, values in enumerate(series):
        step = frame.width / len(values)
        points = [
            (frame.left + at * step, frame.bottom - value / top * frame.height) for at, value in enumerate(values)
        ]
        line = tag("title", study.curves[index].policy)
        parts.append(tag("path", line, d=steps(points, frame.right), class_=f"{look(index)} thin"))
    return Drawing(title, _shares_in_words(study.curves, series), width, frame.bottom + 26, joined(parts))


def _names(study: Study, data: Sequence[object]) -> list[str]:
    """Return the names for the legend; a line that lies under another says so, as it could not be found."""
    names = [result.policy for result in study.results]
    first = [next(at for at, before in enumerate(data) if before == one) for one in data]
    return [
        name if at == index else f"{name} = {names[at]}"
        for index, (name, at) in enumerate(zip(names, first, strict=True))
    ]


def _shares_in_words(curves: Sequence[Curves], series: Sequence[Sequence[float]]) -> str:
    return " ".join(
        f"{one.policy}: mean {percent(sum(values) / len(values))}, highest {percent(max(values))}."
        for one, values in zip(curves, series, strict=True)
    )


def completions(study: Study, width: float) -> Drawing:
    """Return the distribution of the times from submission to end."""
    times = [[run.end_s - run.submit_s for run in result.runs] for result in study.results]
    return _distribution(
        study, "Time from submission to end", times, width, "No job took any time from submission to end."
    )


def waits(study: Study, width: float) -> Drawing:
    """Return the distribution of the times from submission to start; lines begin at the share that did not wait."""
    times = [[run.start_s - run.submit_s for run in result.runs] for result in study.results]
    return _distribution(study, "Time from submission to start", times, width, "No job waited under any policy.")


def _distribution(study: Study, title: str, times: list[list[float]], width: float, none: str) -> Drawing:
    curves = [cdf(values) for values in times]
    positive = sorted(value for values in times for value in values if value > 0)
    if not positive:
        return nothing(title, none, width)
    lowest, highest = _ends(positive)
    key, above = legend(_names(study, curves), width)
    frame = Frame(_LEFT, above + 8, width - _LEFT - 16, _HEIGHT)
    shares = [(at / 4, f"{25 * at} %") for at in range(5)]
    parts = [key, *value_axis(frame, 1.0, shares), *_log_axis(frame, lowest, highest)]
    for index, points in enumerate(curves):
        line = tag("title", study.results[index].policy)
        parts.append(tag("path", line, d=_staircase(points, frame, lowest, highest), class_=look(index)))
    words = " ".join(_points_in_words(one.policy, points) for one, points in zip(study.results, curves, strict=True))
    return Drawing(title, words, width, frame.bottom + 26, joined(parts))


def _ends(positive: Sequence[float]) -> tuple[float, float]:
    """Return where a logarithmic axis of *positive* (ascending) begins and ends: at its hundredth part, at its last.

    From the least time on, one job that waited for a millisecond would take half of the picture from all others.
    """
    usual, highest = positive[len(positive) // 100], positive[-1]
    lowest = max((tick for tick in _TICKS_S if tick <= usual), default=usual)
    return min(lowest, highest / 10), highest


def _staircase(points: Sequence[Point], frame: Frame, lowest: float, highest: float) -> str:
    """Return the path of a distribution function, from its level at the left edge on; none for no jobs."""
    if not points:
        return ""
    scale = frame.width / math.log(highest / lowest)
    level = max((y for x, y in points if x <= lowest), default=0.0)
    placed = [(frame.left, frame.bottom - level * frame.height)]
    for x, y in points:
        if x > lowest:
            placed.append((frame.left + math.log(x / lowest) * scale, frame.bottom - y * frame.height))
    return steps(placed, frame.right)


def _log_axis(frame: Frame, lowest: float, highest: float) -> Iterator[Markup]:
    """Yield a line and a word at the times that people count in, those left out whose words have no room."""
    scale = frame.width / math.log(highest / lowest)
    taken = frame.left - 20
    for at_s in _TICKS_S:
        if not lowest <= at_s <= highest:
            continue
        text = _tick(at_s)
        x, half = frame.left + math.log(at_s / lowest) * scale, text_width(text) / 2
        yield tag("line", x1=x, y1=frame.top, x2=x, y2=frame.bottom + 4, class_="grid")
        if x - half > taken and x + half < frame.right + 16:
            yield label(x, frame.bottom + 17, text, anchor="middle")
            taken = x + half + 8


def _tick(at_s: float) -> str:
    for unit_s, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if at_s >= unit_s:
            return f"{at_s / unit_s:,g} {unit}"
    return f"{at_s:g} s"


def _points_in_words(policy: str, points: Sequence[Point]) -> str:
    if not points:
        return f"{policy}: no jobs."
    at = [next(x for x, y in points if y >= share) for share in (0.5, 0.9)]
    return (
        f"{policy}: half within {duration(at[0])}, 90 % within {duration(at[1])}, all within {duration(points[-1][0])}."
    )
