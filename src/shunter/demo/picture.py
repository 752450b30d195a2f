"""A finished schedule as a picture: one row per GPU, time to the right, one block per attempt. Pure functions, no I/O.

Times are seconds from any common zero; the axis starts where the first bar starts. A job on several nodes, or one that
ran more than once, has several bars with the same id. Bars on GPUs that *nodes* does not have are left out.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple
from xml.sax.saxutils import escape

from msgspec import Struct
from rich.text import Text

Nodes = Sequence[tuple[str, int]]
"""Each node's name and how many GPUs it has, in the order of the rows."""


class Bar(Struct, frozen=True):
    """One attempt on one node. *gpus* are indexes on that node; *state* as in a job's view, or `preempted`."""

    job_id: int
    name: str
    node: str
    gpus: tuple[int, ...]
    start_s: float
    end_s: float
    state: str
    priority: str

    @property
    def length_s(self) -> float:
        """How long it ran, never negative."""
        return max(self.end_s - self.start_s, 0.0)


class Look(NamedTuple):
    """How a priority is drawn: block colour, and in a terminal the character that fills it, in a fainter colour."""

    colour: str
    fill: str
    fill_colour: str


LOOKS = {
    "high": Look("#c2410c", "━", "#e59a78"),
    "medium": Look("#2563eb", "─", "#8fb1f7"),
    "low": Look("#0f766e", "┄", "#74b5af"),
}
OTHER = Look("#6b7280", "┈", "#b3b8c0")

# Ends that a picture marks; a bar in any other state is plain. Those in TROUBLE are marked red, the others hatched.
MARKS = {"failed": "✗", "timeout": "✗", "lost": "✗", "cancelled": "⊘", "preempted": "↺"}
TROUBLE = frozenset({"failed", "timeout", "lost"})
RED = "#dc2626"


def utilisation(bars: Sequence[Bar], nodes: Nodes) -> float:
    """Return busy GPU-seconds over those that *nodes* had between the first start and the last end, 0 to 1."""
    shown = _shown(bars, nodes)
    gpu_s = sum(count for _, count in nodes) * _span(shown)[1]
    return sum(len(bar.gpus) * bar.length_s for bar in shown) / gpu_s if gpu_s else 0.0


def _shown(bars: Sequence[Bar], nodes: Nodes) -> list[Bar]:
    counts = dict(nodes)
    return [bar for bar in bars if bar.gpus and 0 <= min(bar.gpus) <= max(bar.gpus) < counts.get(bar.node, 0)]


def _span(bars: Sequence[Bar]) -> tuple[float, float]:
    """Return where the axis starts and how long it is, both in seconds; the length of nothing is 0."""
    start_s = min((bar.start_s for bar in bars), default=0.0)
    return start_s, max((bar.start_s + bar.length_s for bar in bars), default=start_s) - start_s


def _ticks(length_s: float, most: int) -> list[float]:
    """Return round times from 0 to *length_s* in steps of 1, 2 or 5 times a power of ten, at most *most* + 1."""
    least = length_s / max(most, 1)
    power = 10.0 ** math.floor(math.log10(least)) if least > 0 else 1.0
    step = next((power * factor for factor in (1, 2, 5) if power * factor >= least), power * 10)
    return [number * step for number in range(int(length_s / step + 1e-9) + 1)]


def _seen(values: Iterator[str], known: Sequence[str]) -> list[str]:
    """Return the distinct *values*, the *known* ones first and in their order."""
    distinct = dict.fromkeys(values)
    return [value for value in known if value in distinct] + [value for value in distinct if value not in known]


# --- in a terminal ---

Cells = list[tuple[str, str]]
"""One character and its style for each column."""


def terminal(bars: Sequence[Bar], nodes: Nodes, width: int) -> Text:
    """Return the picture as lines of at most *width* columns, never under 24; a block has at least one column."""
    shown = _shown(bars, nodes)
    label_width = max((len(f"{node} gpu{count - 1}") for node, count in nodes), default=0) + 1
    columns = max(width, 24) - label_width
    if columns < 8:
        label_width, columns = 16, 8
    lines = []
    for node, count in nodes:
        for gpu in range(count):
            label = f"{node} gpu{gpu}"[-label_width + 1 :].ljust(label_width)
            cells = _row([bar for bar in shown if bar.node == node and gpu in bar.gpus], _span(shown), columns)
            lines.append(_joined([*((char, "bold") for char in label), *cells]))
    lines += [Text(" " * label_width + line, style="dim") for line in _axis(_span(shown)[1], columns)]
    return Text("\n").join([*lines, *_legend(shown, label_width, label_width + columns)])


def _joined(cells: Cells) -> Text:
    groups = ((style, "".join(char for char, _ in group)) for style, group in groupby(cells, key=lambda cell: cell[1]))
    return Text.assemble(*((text, style) for style, text in groups))


def _row(bars: Sequence[Bar], span: tuple[float, float], columns: int) -> Cells:
    """Return one GPU's line. Longer bars are drawn first, so that a very short one stays visible on top."""
    start_s, length_s = span
    cells = [("·", "dim")] * columns
    for bar in sorted(bars, key=lambda bar: -bar.length_s):
        left = min(round((bar.start_s - start_s) / (length_s or 1) * columns), columns - 1)
        right = max(round((bar.start_s + bar.length_s - start_s) / (length_s or 1) * columns), left + 1)
        cells[left:right] = _block(bar, right - left)
    return cells


def _block(bar: Bar, columns: int) -> Cells:
    """Return *columns* cells: edge, id, fill, mark. Where room is short, the mark comes first; an id is never cut."""
    look, mark, number = LOOKS.get(bar.priority, OTHER), MARKS.get(bar.state, ""), str(bar.job_id)
    room = columns - len(mark)
    text = f"▏{number}" if room > len(number) else "▏" if room > 1 else "▪" * room
    cells = [(char, f"bold white on {look.colour}") for char in text]
    cells += [(look.fill, f"{look.fill_colour} on {look.colour}")] * (room - len(text))
    return cells + [(char, _mark_style(bar.state)) for char in mark]


def _mark_style(state: str) -> str:
    return f"bold white on {RED if state in TROUBLE else OTHER.colour}"


def _axis(length_s: float, columns: int) -> tuple[str, str]:
    """Return the axis and, below it, the seconds."""
    line, labels = ["─"] * columns, ""
    for at_s in _ticks(length_s, columns // 10):
        column = min(round(at_s / (length_s or 1) * columns), columns - 1)
        line[column] = "┴"
        text = f"{at_s:g} s"
        if column >= len(labels) and column + len(text) <= columns:
            labels = labels.ljust(column) + text + " "
    return "".join(line), labels.rstrip()


def _legend(bars: Sequence[Bar], indent: int, width: int) -> list[Text]:
    """Return what the colours and marks of *bars* mean, in as many lines as it takes."""
    entries = []
    for priority in _seen((bar.priority for bar in bars), list(LOOKS)):
        look = LOOKS.get(priority, OTHER)
        entries.append(Text.assemble((f"▏{look.fill * 2}", f"bold white on {look.colour}"), f" {priority}"))
    for state in _seen((bar.state for bar in bars if bar.state in MARKS), list(MARKS)):
        entries.append(Text.assemble((MARKS[state], _mark_style(state)), f" {state}"))
    lines = [Text(" " * indent)]
    for entry in [*entries, Text.assemble(("·", "dim"), " idle")]:
        if len(lines[-1]) > indent and len(lines[-1]) + len(entry) > width:
            lines.append(Text(" " * indent))
        lines[-1].append_text(entry).append("   ")
    for line in lines:
        line.rstrip()
    return lines


# --- as SVG ---

WIDTH, ROW, GAP = 1120, 28, 14  # pixels: the whole picture, a GPU's row, the space between nodes
MARGIN, TOP, BOTTOM = 24, 84, 68  # pixels: beside, above and below the rows
LABEL_MOST = 180  # pixels for the GPUs' names, at most
INK, FAINT, LINE = "#111827", "#6b7280", "#e5e7eb"
FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
BOLD = 'font-weight="700"'
HATCH = (
    '<defs><pattern id="shunter-hatch" width="8" height="8" patternUnits="userSpaceOnUse" '
    'patternTransform="rotate(45)"><rect width="3" height="8" fill="white" fill-opacity="0.25"/></pattern></defs>'
)


class _Frame(Struct, frozen=True):
    """Where things go, in pixels: time from *left* on, *plot* pixels long, and each node's rows from its top on."""

    start_s: float
    length_s: float
    left: float
    plot: float
    tops: dict[str, int]
    bottom: int

    def x(self, at_s: float) -> float:
        """Return where *at_s* is; `start_s` is at the left edge, also when the picture has no length."""
        return self.left + (at_s - self.start_s) / (self.length_s or 1) * self.plot


def svg(bars: Sequence[Bar], nodes: Nodes, title: str) -> str:
    """Return a self-contained SVG document, 1120 pixels wide. A job over neighbouring GPUs is one block."""
    shown = _shown(bars, nodes)
    frame = _frame(shown, nodes)
    height = frame.bottom + BOTTOM
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="{FONT}" font-size="12">'
    )
    parts = [head, HATCH, f'<rect width="{WIDTH}" height="{height}" fill="white"/>']
    parts.append(_write(MARGIN, 36, title, 'font-size="20" font-weight="600"'))
    parts.append(_write(MARGIN, 60, _subtitle(shown, nodes), 'font-size="13"', FAINT))
    parts += [*_svg_rows(nodes, frame), *_svg_axis(frame)]
    for bar in sorted(shown, key=lambda bar: -bar.length_s):
        parts += _svg_bar(bar, frame)
    return "\n".join([*parts, *_svg_legend(shown, frame), "</svg>", ""])


def _frame(bars: Sequence[Bar], nodes: Nodes) -> _Frame:
    tops, top = {}, TOP
    for node, count in nodes:
        tops[node] = top
        top += count * ROW + GAP
    labels = max((_text_width(f"{node} gpu{count - 1}", 12) for node, count in nodes), default=0.0)
    left = MARGIN + min(labels, LABEL_MOST) + 10
    start_s, length_s = _span(bars)
    return _Frame(start_s, length_s, left, WIDTH - MARGIN - left, tops, max(top - GAP, TOP))


def _subtitle(bars: Sequence[Bar], nodes: Nodes) -> str:
    jobs, gpus = len({bar.job_id for bar in bars}), sum(count for _, count in nodes)
    return (
        f"{jobs} job{'' if jobs == 1 else 's'} on {gpus} GPUs of {len(nodes)} node{'' if len(nodes) == 1 else 's'} "
        f"in {_span(bars)[1]:.1f} s · {100 * utilisation(bars, nodes):.0f} % of all GPU-seconds used"
    )


def _clean(text: str) -> str:
    """Return *text* for XML, without the control characters that XML cannot hold in any form."""
    return escape(
        "".join(char for char in text if char == "\n" or unicodedata.category(char) not in {"Cc", "Cs", "Cn"})
    )


def _write(x: float, y: float, text: str, more: str = "", colour: str = INK) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" {more}>{_clean(text)}</text>'


def _text_width(text: str, size: float) -> float:
    """Return about how many pixels *text* takes in a sans-serif font of *size* pixels, rather more than less."""
    return sum(1.0 if unicodedata.east_asian_width(char) in "WF" else 0.6 for char in text) * size


def _svg_rows(nodes: Nodes, frame: _Frame) -> Iterator[str]:
    for node, count in nodes:
        for gpu in range(count):
            y, label = frame.tops[node] + gpu * ROW, f"{node} gpu{gpu}"
            while _text_width(label, 12) > LABEL_MOST:
                label = "…" + label[2:]
            yield (
                f'<rect x="{frame.left:.1f}" y="{y + 1}" width="{frame.plot:.1f}" height="{ROW - 2}" fill="#f3f4f6"/>'
            )
            yield _write(frame.left - 10, y + ROW / 2 + 4, label, 'text-anchor="end"', FAINT)


def _svg_axis(frame: _Frame) -> Iterator[str]:
    for at_s in _ticks(frame.length_s, 12):
        x = frame.x(frame.start_s + at_s)
        yield f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{frame.bottom + 5}" stroke="{LINE}"/>'
        yield _write(x, frame.bottom + 20, f"{at_s:g} s", 'text-anchor="middle"', FAINT)


def _svg_bar(bar: Bar, frame: _Frame) -> Iterator[str]:
    """Yield *bar*'s blocks, one per run of neighbouring GPUs, each at least 2 pixels wide."""
    x = min(frame.x(bar.start_s), frame.left + frame.plot - 2)
    width = max(frame.x(bar.start_s + bar.length_s) - x, 2)
    begin_s = bar.start_s - frame.start_s
    detail = (
        f"job {bar.job_id}: {bar.name}\n{bar.priority} priority, {bar.state}\n"
        f"{bar.node}, GPU {', '.join(map(str, sorted(bar.gpus)))}\n"
        f"{begin_s:.2f} s to {begin_s + bar.length_s:.2f} s, ran {bar.length_s:.2f} s"
    )
    for first, count in _runs(bar.gpus):
        box = _Box(x, frame.tops[bar.node] + first * ROW + 1, width, count * ROW - 2)
        yield f"<g><title>{_clean(detail)}</title>"
        yield _svg_shape(LOOKS.get(bar.priority, OTHER).colour, bar.state, box)
        yield from _svg_words(bar, box)
        yield "</g>"


def _runs(gpus: Sequence[int]) -> list[tuple[int, int]]:
    """Return the runs of neighbours in *gpus* as (first, how many)."""
    ordered = sorted(set(gpus))
    cuts = [0, *(at for at, (one, two) in enumerate(pairwise(ordered), 1) if two != one + 1), len(ordered)]
    return [(ordered[begin], end - begin) for begin, end in pairwise(cuts)]


class _Box(NamedTuple):
    x: float
    y: float
    width: float
    height: float


def _svg_shape(colour: str, state: str, box: _Box) -> str:
    """Return a block: hatched when it was stopped, outlined in red and with a cross, where that fits, when it broke."""
    x, y, width, height = box
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{min(4, width / 4):.1f}"'
    shape = f'<rect {place} fill="{colour}" stroke="white"/>'
    if state in MARKS and state not in TROUBLE:
        shape += f'<rect {place} fill="url(#shunter-hatch)"/>'
    if state in TROUBLE:
        shape += (
            f'<rect x="{x + 1.5:.1f}" y="{y + 1.5:.1f}" width="{max(width - 3, 1):.1f}" height="{height - 3:.1f}" '
            f'rx="{min(3, width / 4):.1f}" fill="none" stroke="{RED}" stroke-width="3"/>'
        )
    if state in TROUBLE and width >= 16:
        at_x, at_y = x + width - min(13, width / 2), y + height / 2
        shape += (
            f'<circle cx="{at_x:.1f}" cy="{at_y:.1f}" r="8" fill="{RED}" stroke="white"/>'
            f'<path d="M{at_x - 3:.1f} {at_y - 3:.1f}l6 6m0 -6l-6 6" stroke="white" '
            'stroke-width="2" stroke-linecap="round"/>'
        )
    return shape


def _svg_words(bar: Bar, box: _Box) -> Iterator[str]:
    """Yield id and name where both fit, on one line or two, in a smaller font if need be; else the id; else nothing."""
    x, y, width, height = box
    number, middle = str(bar.job_id), y + height / 2 + 4
    room = width - 12 - (18 if bar.state in TROUBLE else 0)
    indent = _text_width(f"{number} ", 12)
    for size in (12, 10):
        more = f'font-size="{size}"'
        if indent + _text_width(bar.name, size) <= room:
            yield _write(x + 7, middle, number, BOLD, "white")
            yield _write(x + 7 + indent, middle, bar.name, more, "white")
            return
        if height > 2 * ROW - 3 and max(_text_width(bar.name, size), indent) <= room:
            yield _write(x + 7, middle - 8, number, BOLD, "white")
            yield _write(x + 7, middle + 8, bar.name, more, "white")
            return
    if _text_width(number, 12) <= room + 6:
        yield _write(x + min(7, (width - _text_width(number, 12)) / 2), middle, number, BOLD, "white")


def _svg_legend(bars: Sequence[Bar], frame: _Frame) -> Iterator[str]:
    """Yield a swatch and a word per priority and per marked end, in one line under the axis."""
    entries = [
        (f"{name} priority", LOOKS.get(name, OTHER).colour, "")
        for name in _seen((bar.priority for bar in bars), list(LOOKS))
    ]
    entries += [
        (state, OTHER.colour, state) for state in _seen((bar.state for bar in bars if bar.state in MARKS), list(MARKS))
    ]
    x = frame.left
    for text, colour, state in entries:
        yield _svg_shape(colour, state, _Box(x, frame.bottom + 36, 18, 18))
        yield _write(x + 25, frame.bottom + 49, text)
        x += 45 + _text_width(text, 12)
