"""The comparison of packings for a terminal: a row for each share that was requested, a column for each policy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shunter.cli.table import printable
from shunter.sim.packing import Packed
from shunter.sim.snapshot import STEPS
from shunter.sim.table import WIDTH

ROWS: Final = (80, 90, 95, 100, 110, 130)
"""Requested shares that have a row, in percent; --json has all."""


def comparison(results: Sequence[Packed]) -> Table:
    """Return the table. What comes in brackets is the difference to the first policy, in percentage points."""
    table = Table(box=None, padding=(0, 0, 0, 2), pad_edge=False, header_style="bold")
    table.add_column("requested\n%", justify="right", vertical="bottom", no_wrap=True)
    for result in results:
        table.add_column(f"{printable(result.policy)}\n%", justify="right", vertical="bottom", overflow="fold")
    for row in ROWS:
        step = STEPS.index(row / 100)
        table.add_row(str(row), *(_cell(result, results[0], step) for result in results))
    return table


def _cell(result: Packed, first: Packed, step: int) -> Text:
    mean = f"{100 * result.mean(step):.2f}"
    spread = f" ± {100 * result.spread(step):.2f}" if len(result.runs) > 1 else ""
    more = f" ({100 * (result.mean(step) - first.mean(step)):+.2f})" if result is not first else ""
    return Text(f"{mean}{spread}{more}")


def print_packings(results: Sequence[Packed], head: str) -> None:
    """Print *head*, the table and how to read it."""
    console = Console(highlight=False, no_color=bool(os.environ.get("NO_COLOR")) or None)
    console.width = max(min(console.width, WIDTH), 1) if console.is_terminal else WIDTH
    console.print(Text(printable(head)))
    console.print(comparison(results))
    several, others = len(results[0].runs) > 1, len(results) > 1
    notes = ["allocated GPUs in % of all"]
    notes += ["mean ± standard deviation over the orders"] * several
    notes += [f"in brackets the difference to {printable(results[0].policy)}"] * others
    console.print(Text(", ".join(notes), style="dim"))
