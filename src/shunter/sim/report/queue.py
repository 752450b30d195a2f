"""The queue over time: one small chart per policy, all on one scale, the classes on top of each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from shunter.domain.job import Priority
from shunter.sim.report.markup import Markup, joined, number, short, tag
from shunter.sim.report.plot import (
    NARROW,
    Drawing,
    Frame,
    count_ticks,
    label,
    nothing,
    steps,
    text_width,
    time_axis,
    value_axis,
)
from shunter.sim.report.study import Curves, Study
from shunter.sim.report.words import digits

_TITLE: Final = "Jobs waiting over time"
_LEFT, _HEAD, _HEIGHT, _FOOT, _GAP = 52, 30, 120, 34, 22
"""Pixels of a panel: beside the axis, above, the data, below; and between two panels."""


def queue(study: Study, width: float) -> Drawing:
    """Return the numbers of waiting jobs by class. The scale ends above the highest bin of all policies."""
    if not any(curves.most_waiting for curves in study.curves) or not study.edges:
        return nothing(_TITLE, "No job waited under any policy.", width)
    columns = 1 if width <= NARROW or len(study.curves) == 1 else 2
    stacks = [_stack(curves, study.classes) for curves in study.curves]
    top, ticks = count_ticks(max(max(stack[-1]) for stack in stacks))
    key, above = _legend(study.classes)
    wide, high = (width + _GAP) / columns - _GAP, _HEAD + _HEIGHT + _FOOT
    parts = [key]
    for index, (curves, stack) in enumerate(zip(study.curves, stacks, strict=True)):
        left, upper = index % columns * (wide + _GAP), above + index // columns * high
        frame = Frame(left + _LEFT, upper + _HEAD, wide - _LEFT - 12, _HEIGHT)
        parts += [*value_axis(frame, top, ticks), *time_axis(frame, study.length_s, study.since_s)]
        parts += [*_areas(frame, stack, study.classes, top), *_heading(curves, left, upper + 18, wide)]
    height = above + (len(stacks) + columns - 1) // columns * high
    return Drawing(_TITLE, _words(study.curves), width, height, joined(parts))


def _stack(curves: Curves, classes: Sequence[Priority]) -> list[list[float]]:
    """Return for each class the jobs of it and of all higher ones."""
    sums: list[list[float]] = []
    for priority in classes:
        values = curves.waiting[priority]
        sums.append([a + b for a, b in zip(sums[-1], values, strict=True)] if sums else values)
    return sums


def _areas(frame: Frame, stack: list[list[float]], classes: Sequence[Priority], top: float) -> Iterator[Markup]:
    """Yield the areas, the highest stack first: each lower one covers what is not its own."""
    for priority, sums in reversed(list(zip(classes, stack, strict=True))):
        if not any(sums):
            continue
        step = frame.width / len(sums)
        points = [(frame.left + at * step, frame.bottom - value / top * frame.height) for at, value in enumerate(sums)]
        path = steps(points, frame.right)
        closed = f"{path}V{number(frame.bottom)}H{number(frame.left)}Z"
        yield tag("path", tag("title", priority), d=closed, class_=priority)


def _heading(curves: Curves, x: float, y: float, width: float) -> Iterator[Markup]:
    figures = f"mean {digits(curves.mean_waiting)}, at most {curves.most_waiting:,}"
    name = short(curves.policy, max(int((width - text_width(figures) - 24) / 8), 6))
    yield label(x, y, name, class_="head")
    yield label(x + width - 12, y, figures, anchor="end")


def _legend(classes: Sequence[Priority]) -> tuple[Markup, float]:
    parts: list[Markup] = []
    x = 0.0
    for place, priority in enumerate(classes):
        where = (
            "" if len(classes) == 1 else " (bottom)" if place == 0 else " (top)" if place == len(classes) - 1 else ""
        )
        text = f"{priority}{where}"
        parts.append(tag("rect", x=x, y=4, width=16, height=12, class_=priority))
        parts.append(label(x + 22, 14, text, class_="name"))
        x += 22 + text_width(text) + 16
    return joined(parts), 24


def _words(curves: Sequence[Curves]) -> str:
    return " ".join(
        f"{one.policy}: {digits(one.mean_waiting)} jobs waiting on average, at most {one.most_waiting:,}."
        for one in curves
    )
