"""What every chart is made of: the frame and its scales, axes in human units, legends, and step lines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple
from unicodedata import east_asian_width

from msgspec import Struct

from shunter.sim.report.markup import Markup, joined, number, short, tag
from shunter.sim.report.style import CHART_CSS, COLOURS, DASHES

WIDE: Final = 920
NARROW: Final = 440
"""Widths of a chart, in pixels: for a screen or a sheet of paper, and for a telephone."""

_SECONDS: Final = (1, 2, 5, 10, 15, 30)
_STEPS: Final = (
    *((step, 1, "s") for step in _SECONDS),
    *((step * 60, 60, "min") for step in _SECONDS),
    *((step * 3_600, 3_600, "h") for step in (1, 2, 3, 6, 12)),
    *((step * 86_400, 86_400, "d") for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)),
)
"""Distances between two times on an axis: in seconds, and the unit they are written in, in seconds and by name."""


class Frame(NamedTuple):
    """The part of a chart in which data is drawn, in pixels."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def bottom(self) -> float:
        return self.top + self.height


class Drawing(Struct, frozen=True):
    """One chart. *body* lies in a box of *width* by *height* pixels; *title* and *words* describe it."""

    title: str
    words: str
    width: float
    height: float
    body: Markup


def svg(drawing: Drawing, kind: str = "wide", *, own_style: bool = False) -> Markup:
    """Return *drawing* as an element; with *own_style* it can stand alone in a file."""
    style = [tag("style", Markup(CHART_CSS))] if own_style else []
    paper = tag("rect", class_="paper", width=drawing.width, height=drawing.height)
    return tag(
        "svg",
        tag("title", drawing.title),
        tag("desc", drawing.words),
        *style,
        paper,
        drawing.body,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {number(drawing.width)} {number(drawing.height)}",
        class_=f"chart {kind}",
        role="img",
    )


def stacked(drawings: Sequence[Drawing], title: str) -> Drawing:
    """Return *drawings* one below the other as one."""
    parts, top = [], 0.0
    for drawing in drawings:
        parts.append(tag("g", drawing.body, transform=f"translate(0 {number(top)})"))
        top += drawing.height
    words = " ".join(drawing.words for drawing in drawings)
    return Drawing(title, words, max((drawing.width for drawing in drawings), default=0), top, joined(parts))


# --- text ---


def label(x: float, y: float, text: str, class_: str = "soft", anchor: str | None = None) -> Markup:
    return tag("text", text, x=x, y=y, class_=class_, text_anchor=anchor)


def text_width(text: str, size: float = 12) -> float:
    """Return about how many pixels *text* takes in a sans-serif font of *size* pixels, rather more than less."""
    return sum(1.0 if east_asian_width(char) in "WF" else 0.56 for char in text) * size


def nothing(title: str, words: str, width: float) -> Drawing:
    """Return the chart of no data: a sentence that says so."""
    return Drawing(title, words, width, 44, label(0, 26, words))


# --- scales and axes ---


def time_ticks(length_s: float, most: int) -> list[tuple[float, str]]:
    """Return times from 0 to *length_s* at round distances, with their words; at most *most* + 1."""
    least = length_s / max(most, 1)
    if 0 < least <= 0.5:
        step_s = nice(least)
        return [(at * step_s, f"{at * step_s:.6g} s") for at in range(int(length_s / step_s + 1e-9) + 1)]
    step_s, unit_s, unit = next((step for step in _STEPS if step[0] >= least), (nice(least), 86_400, "d"))
    times = [at * step_s for at in range(int(length_s / step_s + 1e-9) + 1)]
    return [(at_s, f"{at_s / unit_s:,g} {unit}") for at_s in times]


def nice(least: float) -> float:
    """Return the least of 1, 2, 5, 10, 20, 50 and so on, or their fractions, that is at least *least* (above 0)."""
    power = 10.0 ** math.floor(math.log10(least))
    return next((power * factor for factor in (1, 2, 5) if power * factor >= least * (1 - 1e-9)), power * 10)


def time_axis(frame: Frame, length_s: float, submitted_s: float | None = None) -> Iterator[Markup]:
    """Yield a line and a word per round time from 0 to *length_s*, and a dotted line at *submitted_s*."""
    scale = frame.width / length_s if length_s > 0 else 0.0
    for at_s, text in time_ticks(length_s, int(frame.width // 75)):
        x = frame.left + at_s * scale
        yield tag("line", x1=x, y1=frame.top, x2=x, y2=frame.bottom + 4, class_="grid")
        end = "end" if x + text_width(text) / 2 > frame.right + 8 else "middle"
        yield label(x, frame.bottom + 17, text, anchor=end)
    if submitted_s is not None:
        x = frame.left + submitted_s * scale
        yield tag("line", x1=x, y1=frame.top - 5, x2=x, y2=frame.bottom, class_="mark")


def value_axis(frame: Frame, top: float, ticks: Sequence[tuple[float, str]]) -> Iterator[Markup]:
    """Yield a line and a word per tick of a scale from 0, at the bottom, to *top*."""
    for value, text in ticks:
        y = frame.bottom - value / top * frame.height
        yield tag("line", x1=frame.left, y1=y, x2=frame.right, y2=y, class_="grid" if value else "axis")
        yield label(frame.left - 6, y + 4, text, anchor="end")


def share_ticks(highest: float, most: int = 5) -> tuple[float, list[tuple[float, str]]]:
    """Return the top of a scale that holds the share *highest*, and its ticks in percent."""
    step = nice(max(highest, 1e-6) / most)
    steps = max(math.ceil(highest / step - 1e-9), 1)
    return steps * step, [(at * step, f"{100 * at * step:.4g} %") for at in range(steps + 1)]


def count_ticks(highest: float, most: int = 4) -> tuple[float, list[tuple[float, str]]]:
    """Return the top of a scale that holds *highest* things, and its ticks: whole numbers."""
    step = max(nice(max(highest, 1) / most), 1)
    steps = max(math.ceil(highest / step - 1e-9), 1)
    return steps * step, [(at * step, f"{at * step:,.0f}") for at in range(steps + 1)]


# --- lines ---


def look(index: int) -> str:
    """Return the classes of the line of policy number *index*: a colour and a dash."""
    return f"curve s{index % COLOURS} d{index % len(DASHES)}"


def steps(points: Sequence[tuple[float, float]], end_x: float) -> str:
    """Return the path that holds each point's y from its x until the next one's, the last until *end_x*."""
    path, last = "", ""
    for x, y in points:
        level = number(y)
        if not path:
            path = f"M{number(x)} {level}"
        elif level != last:
            path += f"H{number(x)}V{level}"
        last = level
    return f"{path}H{number(end_x)}" if path else ""


def legend(names: Sequence[str], width: float, left: float = 0) -> tuple[Markup, float]:
    """Return a piece of line and a name per policy, in as many rows as *width* needs, and how high they are."""
    parts: list[Markup] = []
    x, y = left, 14.0
    for index, name in enumerate(names):
        text = short(name, 32)
        wide = 44 + text_width(text) + 14
        if x > left and x + wide > width:
            x, y = left, y + 20
        parts.append(tag("path", d=f"M{number(x)} {number(y - 4)}h36", class_=look(index)))
        parts.append(label(x + 42, y, text, class_="name"))
        x += wide
    return joined(parts), y + 10
