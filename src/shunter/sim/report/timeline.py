"""The nodes over time: one row per node, the darker the more of its GPUs are in use."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from shunter.sim.report.bins import Piece, means
from shunter.sim.report.markup import Markup, joined, number, short, tag
from shunter.sim.report.plot import NARROW, Drawing, Frame, label, nothing, text_width, time_axis
from shunter.sim.report.study import Study, held_gpus
from shunter.sim.report.words import percent

MOST_NODES: Final = 64
PER_CELL: Final = 2
"""Bins of time in one cell: more detail than a pixel would only make the page longer."""
_LEVELS: Final = 4
_LEGEND: Final = ("idle", "to 25 %", "50 %", "75 %", "100 %")
_HEAD: Final = 30


def timeline(study: Study, index: int, names: Sequence[str], width: float) -> Drawing:
    """Return the GPUs in use on the nodes *names* under policy number *index*."""
    result = study.results[index]
    title = f"Nodes over time: {result.policy}"
    if not study.edges or not names:
        return nothing(title, "There is nothing to draw: no time passed, or no node has GPUs.", width)
    held = held_gpus(result.runs)
    shares = [_shares(held.get(name, []), result.nodes.get(name, 0), study.edges[::PER_CELL]) for name in names]
    row = 20 if len(names) <= 8 else 13 if len(names) <= 24 else 8
    left = min(max(text_width(name, 10) for name in names), 64 if width <= NARROW else 110) + 8
    frame = Frame(left, _HEAD, width - left - 16, row * len(names))
    parts = [tag("rect", x=frame.left, y=frame.top, width=frame.width, height=frame.height, class_="idle")]
    parts += [*_heading(result.policy, frame), *_names(names, frame, row), *_rows(shares, frame, row)]
    parts += time_axis(frame, study.length_s, study.since_s)
    mean = sum(map(sum, shares)) / len(shares) / len(shares[0])
    words = f"{result.policy}: the {len(names)} nodes drawn were {percent(mean)} in use over the whole time."
    return Drawing(title, words, width, frame.bottom + 26, joined(parts))


def _shares(pieces: Sequence[Piece], gpus: int, edges: Sequence[float]) -> list[float]:
    return [value / gpus if gpus else 0.0 for value in means(pieces, edges)]


def _rows(shares: Sequence[Sequence[float]], frame: Frame, row: int) -> Iterator[Markup]:
    """Yield a path per row and level. Their unit is a bin by a row, so that every number in them is short."""
    scale = f"translate({number(frame.left)} {frame.top:g}) scale({frame.width / len(shares[0]):.6f} {row})"
    paths = [
        tag("path", d=path, class_=f"heat h{level}")
        for place, values in enumerate(shares)
        for level in range(1, _LEVELS + 1)
        if (path := _runs([_level(value) for value in values], level, place))
    ]
    yield tag("g", joined(paths), transform=scale)


def _level(share: float) -> int:
    """Return 0 for idle, then 1 to 4 for each started quarter of the GPUs."""
    return min(math.ceil(share * _LEVELS - 1e-9), _LEVELS)


def _runs(levels: Sequence[int], level: int, place: int) -> str:
    """Return the path through the bins that are at *level*, relative: `M0 3.5m7 0h2m4 0h1`."""
    path, at, index = "", 0, 0
    while index < len(levels):
        until = index + 1
        while until < len(levels) and levels[until] == levels[index]:
            until += 1
        if levels[index] == level:
            path += f"m{index - at} 0h{until - index}"
            at = until
        index = until
    return path and f"M0 {place}.5{path}"


def _names(names: Sequence[str], frame: Frame, row: int) -> Iterator[Markup]:
    """Yield the name of every node, or of every second one where rows are too low."""
    for place, name in enumerate(names):
        if row >= 12 or place % 2 == 0:
            text = short(name, int((frame.left - 8) / 5.6))
            y = frame.top + (place + 0.5) * row + 3.5
            yield tag("text", tag("title", name), text, x=frame.left - 6, y=y, class_="soft tiny", text_anchor="end")


def _heading(policy: str, frame: Frame) -> Iterator[Markup]:
    legend = frame.right - sum(_entry_width(text) for text in _LEGEND)
    yield label(0, 18, short(policy, max(int((legend - 10) / 8), 6)), class_="head")
    for level, text in enumerate(_LEGEND):
        x = legend + sum(_entry_width(before) for before in _LEGEND[:level])
        yield tag("rect", x=x, y=9, width=10, height=10, class_=f"h{level}" if level else "idle")
        yield label(x + 13, 18, text, class_="soft tiny")


def _entry_width(text: str) -> float:
    return 13 + text_width(text, 10) + 10
