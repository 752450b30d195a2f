"""How the time of a pass grows with the cluster and with its queue: two charts on logarithmic axes, and their slopes.

On such axes a power law is a straight line, and its exponent the slope: 1 where twice the input takes twice the time,
0 where the input does not matter.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from shunter.sim.report.markup import Markup, joined, number, tag
from shunter.sim.report.plot import WIDE, Drawing, Frame, label, legend, look, svg, text_width

TARGET_MS: Final = 5.0
PERCENTILES: Final = ("p50", "p99")

Point = tuple[int, float, float]
"""A size, and the p50 and p99 of a pass in ms; all three above 0."""

_NAMES: Final = ("p50 (median)", "p99")
_DOUBLE: Final = "double the input, double the time"
_PANEL: Final = WIDE / 2
_LEFT: Final = 54
_RIGHT: Final = 50
"""Beside a chart, in pixels: for the words of its axis, and for the word at the target."""

_HEIGHT: Final = 280
_INSET: Final = 24
"""Between the frame and the outermost points, in pixels: room for their values."""

_CSS: Final = """
svg.chart .double { stroke: var(--soft); stroke-width: .8; stroke-dasharray: 1 3; fill: none; }
svg.chart .target { stroke: var(--s2); stroke-width: 1.2; }
svg.chart text.value { font-size: 11px; paint-order: stroke; stroke: var(--paper); stroke-width: 3; }
svg.chart text.value { stroke-linejoin: round; }
svg.chart .dot { stroke: var(--paper); }
svg.chart .dot.p50 { fill: var(--s0); }
svg.chart .dot.p99 { fill: var(--s1); }
"""


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Return the exponent of the power law that fits *points* (size, time) best: least squares of the logarithms.

    None where there is none: fewer than two different sizes.
    """
    if len({size for size, _ in points}) < 2:
        return None
    sizes, times = zip(*points, strict=True)
    return statistics.linear_regression(list(map(math.log, sizes)), list(map(math.log, times))).slope


def slopes(curve: Sequence[Point]) -> dict[str, float]:
    """Return the slope of each percentile of *curve* by its name; empty where there is none."""
    fitted = {name: slope([(point[0], point[at]) for point in curve]) for at, name in enumerate(PERCENTILES, 1)}
    return {name: value for name, value in fitted.items() if value is not None}


def draw(nodes_curve: Sequence[Point], pending_curve: Sequence[Point], nodes: int, pending: int) -> str:
    """Return both charts side by side as an SVG that stands alone.

    *nodes_curve* was measured with *pending* jobs pending, *pending_curve* with *nodes* nodes. Both charts have the
    same axis of time, so they can be compared.
    """
    times = [ms for _, *both in (*nodes_curve, *pending_curve) for ms in both]
    least, most = min((*times, TARGET_MS)), max((*times, TARGET_MS))
    key, above = _key()
    panels = [
        _panel("nodes", f"{pending:,} pending jobs", nodes_curve, (least, most)),
        _panel("pending jobs", f"{nodes:,} nodes", pending_curve, (least, most)),
    ]
    parts = [tag("style", Markup(_CSS)), key]
    for at, panel in enumerate(panels):
        parts.append(tag("g", panel.body, transform=f"translate({number(at * _PANEL)} {number(above)})"))
    title = "Time of a pass by nodes, and by pending jobs"
    height = above + max(panel.height for panel in panels)
    drawing = Drawing(title, " ".join(panel.words for panel in panels), WIDE, height, joined(parts))
    return svg(drawing, own_style=True)


# --- scales ---


class _Scale(NamedTuple):
    """A logarithmic axis: *least* lies at *start* and *most* at *end*, in pixels."""

    least: float
    most: float
    start: float
    end: float

    def at(self, value: float) -> float:
        return self.start + math.log(value / self.least) / math.log(self.most / self.least) * (self.end - self.start)


def _scale(least: float, most: float, start: float, end: float) -> _Scale:
    """Return a scale that is not empty where *least* is *most*: then both lie in its middle."""
    return _Scale(least, most, start, end) if least < most else _Scale(least / 2, most * 2, start, end)


def _round_times(least: float, most: float) -> list[float]:
    """Return 1, 2, 5, 10 and so on from *least* to *most*; over many powers of ten only these."""
    factors = (1, 2, 5) if most / least < 1e4 else (1,)
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    times = [factor * 10.0**power for power in powers for factor in factors]
    return [time for time in times if least * (1 - 1e-9) <= time <= most * (1 + 1e-9)]


# --- one chart ---


def _panel(what: str, given: str, curve: Sequence[Point], span_ms: tuple[float, float]) -> Drawing:
    """Return the chart of *curve* against *what*, on an axis of time over *span_ms*."""
    title = f"Time of a pass by {what}, with {given}"
    head = label(_LEFT, 16, title, class_="head")
    if not curve:
        words = "Nothing was measured."
        return Drawing(title, f"{title}: {words}", _PANEL, 44, joined([head, label(_LEFT, 34, words)]))
    curve = sorted(curve)
    frame = Frame(_LEFT, 46, _PANEL - _LEFT - _RIGHT, _HEIGHT)
    x = _scale(curve[0][0], curve[-1][0], frame.left + _INSET, frame.right - _INSET)
    y = _scale(*span_ms, frame.bottom - _INSET, frame.top + _INSET)
    fitted = ", ".join(f"{value:z.2f} ({name})" for name, value in slopes(curve).items())
    parts = [
        head,
        label(_LEFT, 34, f"ms; slope {fitted}" if fitted else "ms"),
        *_time_axis(frame, y),
        *_size_axis(frame, x, [size for size, *_ in curve]),
        *_references(frame, x, y, curve[0]),
        *_lines(x, y, curve),
        label((frame.left + frame.right) / 2, frame.bottom + 35, what, anchor="middle"),
    ]
    return Drawing(title, _in_words(title, what, curve, fitted), _PANEL, frame.bottom + 46, joined(parts))


def _time_axis(frame: Frame, y: _Scale) -> Iterator[Markup]:
    """Yield a line and a word per round time within *frame*, those words left out that have no room."""
    beyond = (y.most / y.least) ** ((y.end - frame.top) / (y.start - y.end))
    taken = math.inf
    for ms in _round_times(y.least / beyond, y.most * beyond):
        level = y.at(ms)
        yield _line("grid", frame.left, level, frame.right, level)
        if taken - level >= 13:
            yield label(frame.left - 6, level + 4, f"{ms:,g}", anchor="end")
            taken = level


def _size_axis(frame: Frame, x: _Scale, sizes: Sequence[int]) -> Iterator[Markup]:
    """Yield a line and a word per size that was measured, those words left out that have no room."""
    for size in sizes:
        yield _line("grid", x.at(size), frame.top, x.at(size), frame.bottom + 4)
    yield _line("axis", frame.left, frame.bottom, frame.right, frame.bottom)
    yield from _words([(x.at(size), frame.bottom + 17, f"{size:,}") for size in sizes], "soft", 12)


def _references(frame: Frame, x: _Scale, y: _Scale, first: Point) -> Iterator[Markup]:
    """Yield a line at the target, and from the first point of each percentile one of slope 1, until it leaves."""
    target = y.at(TARGET_MS)
    yield _line("target", frame.left, target, frame.right, target)
    yield label(frame.right + 5, target + 4, "target")
    size, *times = first
    for ms in times:
        begin, level = x.at(size), y.at(ms)
        steep = (y.at(2 * ms) - level) / (x.at(2 * size) - begin)
        end = min(frame.right, begin + (frame.top - level) / steep)
        yield _line("double", begin, level, end, level + (end - begin) * steep)


def _lines(x: _Scale, y: _Scale, curve: Sequence[Point]) -> Iterator[Markup]:
    """Yield the line of each percentile, then over them their points and values: p50's below, p99's above."""
    placed = [[(x.at(point[0]), y.at(point[at]), point[at]) for point in curve] for at in (1, 2)]
    for index, points in enumerate(placed):
        path = "L".join(f"{number(across)} {number(level)}" for across, level, _ in points)
        yield tag("path", d=f"M{path}", class_=look(index))
    for points, drop in zip(placed, (17, -9), strict=True):
        yield from _words([(across, level + drop, _ms(ms)) for across, level, ms in points], "value", 11)
    for name, points in zip(PERCENTILES, placed, strict=True):
        for across, level, _ in points:
            yield tag("circle", cx=across, cy=level, r=3.5, class_=f"dot {name}")


def _words(placed: Sequence[tuple[float, float, str]], class_: str, size: float) -> Iterator[Markup]:
    """Yield each text around its place (ascending), unless it would run into the one before."""
    taken = -math.inf
    for across, level, text in placed:
        half = text_width(text, size) / 2
        if across - half > taken:
            yield label(across, level, text, class_=class_, anchor="middle")
            taken = across + half + 6


def _line(class_: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def _key() -> tuple[Markup, float]:
    """Return the legend of both charts, and how high it is."""
    names, high = legend(_NAMES, WIDE, _LEFT)
    left = _LEFT + sum(58 + text_width(name) for name in _NAMES)  # where the legend would put its next
    line = _line("double", left, 10, left + 36, 10)
    return joined([names, line, label(left + 42, 14, _DOUBLE)]), high + 12


# --- words ---


def _ms(ms: float) -> str:
    """Return *ms* in two digits, or all of those before the point."""
    return f"{float(f'{ms:.2g}'):,g}" if ms < 100 else f"{ms:,.0f}"


def _in_words(title: str, what: str, curve: Sequence[Point], fitted: str) -> str:
    points = "; ".join(f"{size:,} {what}: p50 {_ms(p50)} ms, p99 {_ms(p99)} ms" for size, p50, p99 in curve)
    return f"{title}. {points}. " + (f"Slope: {fitted}." if fitted else "")
