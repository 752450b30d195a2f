"""The comparison of policies for a terminal: a row for each, in 100 columns, the best figure of each column marked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shunter.cli.table import printable
from shunter.sim.report.table import Column, best
from shunter.sim.report.words import percent
from shunter.sim.result import Result

WIDTH: Final = 100
"""Where there is no terminal, and on wider ones."""

_MARK: Final = "*"
_WIDEST_NAME: Final = 24


_UNITS: Final = ((100, 1, "s"), (6_000, 60, "min"), (360_000, 3_600, "h"), (float("inf"), 86_400, "d"))
"""Up to which time in seconds a column is in which unit, and how many seconds that has."""


def _seconds(name: str, value: Callable[[Result], float], results: Sequence[Result]) -> Column:
    """Return a column in one unit, with as many decimals as give its greatest figure four digits."""
    most = max(map(value, results), default=0.0)
    size, unit = next((size, unit) for limit, size, unit in _UNITS if most < limit)
    decimals = min(max(4 - len(f"{most / size:.0f}"), 0), 3)

    def shown(result: Result) -> str:
        return f"{value(result) / size:,.{decimals}f}"

    return Column(f"{name}\n{unit}", value, shown, shown)


def _share(name: str, value: Callable[[Result], float], *, more_is_better: bool) -> Column:
    def shown(result: Result) -> str:
        return percent(value(result)).replace(" ", "")

    return Column(name, value, shown, shown, more_is_better)


def _columns(results: Sequence[Result]) -> list[Column]:
    return [
        _seconds("mean\nJCT", lambda result: result.mean_jct_s, results),
        _seconds("mean\nwait", lambda result: result.mean_queue_s, results),
        _seconds("wait\np50", lambda result: result.p50_queue_s, results),
        _seconds("wait\np99", lambda result: result.p99_queue_s, results),
        _seconds("wait\np99.9", lambda result: result.p999_queue_s, results),
        Column("jobs\nthat\nwaited", lambda r: r.queued_jobs, lambda r: f"{r.queued_jobs:,}", lambda _: ""),
        _share("\nGPUs\nused", lambda result: result.util_window, more_is_better=True),
        _share("\n\npacked", lambda result: result.alloc_while_waiting, more_is_better=True),
        _seconds("make-\nspan", lambda result: result.makespan_s, results),
        _share("\nfrag-\nmented", lambda result: result.frag_fgd, more_is_better=False),
        _seconds("wall\ntime", lambda result: result.wall_s, results),
    ]


def comparison(results: Sequence[Result]) -> Table:
    """Return the table. Figures that look alike are marked together; none is where all look alike."""
    table = Table(box=None, padding=(0, 0, 0, 1), pad_edge=False, header_style="bold")
    table.add_column("policy", vertical="bottom", overflow="fold", max_width=_WIDEST_NAME)
    columns = _columns(results)
    for column in columns:
        # The header keeps off the place of the mark, too, so that it ends where the figures do.
        table.add_column(column.name.replace("\n", " \n") + " ", justify="right", no_wrap=True)
    bests = [best(column, results) for column in columns]
    for result in results:
        table.add_row(Text(printable(result.policy)), *_cells(result, columns, bests))
    return table


def _cells(result: Result, columns: Sequence[Column], bests: Sequence[str | None]) -> Iterator[Text]:
    for column, winner in zip(columns, bests, strict=True):
        shown = column.shown(result)
        yield Text(f"{shown}{_MARK}", style="bold green") if shown == winner else Text(f"{shown} ")


def print_comparison(results: Sequence[Result], head: str, *, err: bool) -> None:
    """Print *head*, the table and how to read it to stdout, or to stderr with *err*."""
    console = Console(stderr=err, highlight=False, no_color=bool(os.environ.get("NO_COLOR")) or None)
    console.width = max(min(console.width, WIDTH), 1) if console.is_terminal else WIDTH
    console.print(Text(printable(head)))
    console.print(comparison(results))
    if len(results) > 1:
        console.print(Text(f"{_MARK} best of its column; --help says what the columns mean", style="dim"))
