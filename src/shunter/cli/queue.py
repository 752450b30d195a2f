"""`shunter queue`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

import click

from shunter.cli.connect import connect
from shunter.cli.options import json_option
from shunter.cli.output import print_json, state_cell, time_of, why
from shunter.cli.table import Cell, Column, render, terminal_width
from shunter.domain.job import in_gpus
from shunter.domain.report import ENDED_STATES, STATES, JobView
from shunter.errors import InvalidInput

if TYPE_CHECKING:
    from shunter.sdk.client import Client

COLUMNS: Final = (
    Column("ID", right=True),
    Column("NAME", most=28),
    Column("USER", most=12),
    Column("STATE"),
    Column("PRIO"),
    Column("GPUS", right=True),
    Column("NODES", most=20),
    Column("TIME", right=True),
    Column("REASON"),
)


@click.command(short_help="List jobs, and why each one waits.")
@click.option("--all", "everything", is_flag=True, help="Ended jobs too, newest first.")
@click.option("--user", metavar="NAME", help="Only this user's jobs.")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only jobs in it (repeatable).")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, metavar="N", help="At most N.")
@click.option("--watch", is_flag=True, help="Keep the list up to date, until Ctrl-C.")
@json_option
def queue(everything: bool, user: str | None, states: tuple[str, ...], limit: int, watch: bool, as_json: bool) -> None:
    """List jobs. TIME is how long a job runs or, before that, has waited; REASON is why it waits or how it ended.

    \b
    Examples:
      shunter queue
      shunter queue --all --user ada --limit 20
      shunter queue --state queued --json
    """
    if watch and (as_json or not sys.stdout.isatty()):
        raise InvalidInput("--watch: needs a terminal", fix="`shunter events --follow` is for programs")
    everything = everything or any(state in ENDED_STATES for state in states)

    def read(client: Client, most: int = limit) -> list[JobView]:
        return list(islice(client.jobs(all=everything, user=user, states=states, limit=most), most))

    with connect() as client:
        if watch:
            from shunter.cli.watch import watch_queue

            watch_queue(client, lambda: read(client))
            return
        views = read(client, limit + 1)
    more, views = len(views) > limit, views[:limit]
    if as_json:
        print_json(views)
    else:
        click.echo(page(views, width=terminal_width(), more=more))


def page(views: Sequence[JobView], *, width: int | None, more: bool = False, shift_s: float = 0.0) -> str:
    """Return the header line and the table; *shift_s* ago the *views* were read."""
    if not views:
        return "no jobs"
    lines = [summary(views, more=more), render(COLUMNS, [_row(view, shift_s) for view in views], width=width)]
    return "\n".join(lines)


def summary(views: Sequence[JobView], *, more: bool = False) -> str:
    counts = Counter(view.state for view in views)
    states = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    # Thousandths: a sum of ten shares of 0.1 as floats is not 1.
    busy = in_gpus(sum(view.job.request.milli for view in views if view.nodes and view.state not in ENDED_STATES))
    count = f"the first {len(views)} jobs (--limit shows more)" if more else _number(len(views), "job")
    return f"{count}: {states}; {_number(busy, 'GPU')} in use"


def _number(count: int | float, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _row(view: JobView, shift_s: float) -> list[str | Cell]:
    nodes = ",".join(view.nodes[:2]) + (f",+{len(view.nodes) - 2}" if len(view.nodes) > 2 else "")
    return [
        str(view.id),
        view.name,
        view.user,
        state_cell(view),
        view.priority,
        str(view.gpus),
        nodes,
        time_of(view, shift_s),
        why(view),
    ]
