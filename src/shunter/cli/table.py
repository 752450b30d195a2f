"""Tables for people: aligned columns, cut to the terminal's width when there is one, coloured when it can."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import click


class Column(NamedTuple):
    """*most*: cells are cut to so many characters on a terminal."""

    title: str
    right: bool = False
    most: int = 1_000


class Cell(NamedTuple):
    text: str
    colour: str | None = None


def render(columns: Sequence[Column], rows: Sequence[Sequence[str | Cell]], *, width: int | None) -> str:
    """Return the table without a final newline. *width* None: nothing is cut and nothing coloured (for pipes)."""
    table = [[Cell(column.title) for column in columns]]
    table += [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    table = [[Cell(printable(cell.text) or "-", cell.colour) for cell in row] for row in table]
    if width is not None:
        table = [[Cell(_cut(cell.text, columns[at].most), cell.colour) for at, cell in enumerate(row)] for row in table]
    sizes = [max(_width(row[at].text) for row in table) for at in range(len(columns))]
    if width is not None:
        left = width - sum(sizes[:-1]) - 2 * (len(sizes) - 1)
        table = [[*row[:-1], Cell(_cut(row[-1].text, max(left, 10)), row[-1].colour)] for row in table]
    coloured = width is not None and not os.environ.get("NO_COLOR")
    return "\n".join(_line(columns, row, sizes, coloured=coloured) for row in table)


def _line(columns: Sequence[Column], row: Sequence[Cell], sizes: Sequence[int], *, coloured: bool) -> str:
    parts = []
    for at, (column, cell) in enumerate(zip(columns, row, strict=True)):
        gap = " " * (sizes[at] - _width(cell.text))
        text = click.style(cell.text, fg=cell.colour) if coloured and cell.colour else cell.text
        if at == len(row) - 1 and not column.right:
            gap = ""
        parts.append(gap + text if column.right else text + gap)
    return "  ".join(parts)


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Return `name  value` lines; rows with an empty value are left out."""
    shown = [(name, value) for name, value in rows if value]
    size = max((len(name) for name, _ in shown), default=0)
    return "\n".join(f"{name:<{size}}  {printable(value)}" for name, value in shown)


def printable(text: str) -> str:
    """Return *text* on one line and without control characters: a job's name must not steer the terminal."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else " " if character in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def terminal_width() -> int | None:
    """Return the columns of the terminal on stdout, None when it is not one."""
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return None
    return shutil.get_terminal_size().columns


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def _cut(text: str, most: int) -> str:
    if _width(text) <= most:
        return text
    while text and _width(text) > most - 1:
        text = text[:-1]
    return text + "…"
