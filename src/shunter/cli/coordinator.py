"""`shunter coordinator`, which runs one, and `shunter coordinator status`."""

from __future__ import annotations

import time
from typing import Any, Final

import click

from shunter.cli.connect import connect
from shunter.cli.lazy import Lazy, LazyGroup
from shunter.cli.options import json_option
from shunter.cli.output import clock, print_json
from shunter.cli.table import Cell, Column, pairs, render, terminal_width
from shunter.coordinator.command import coordinator as run
from shunter.domain.duration import format_duration
from shunter.domain.reason import render_failure
from shunter.domain.report import ClusterView, CoordinatorView, NodeView

SUBCOMMANDS: Final = {
    "status": Lazy("shunter.cli.coordinator:status", "Show who leads, since when, and how old nodes' leases are.")
}
COLUMNS: Final = (
    Column("NODE", most=30), Column("STATE"), Column("LEASE"), Column("RENEWED", right=True), Column("JOBS", right=True)
)  # fmt: skip


COORDINATORS: Final = (
    Column("COORDINATOR", most=40), Column("ROLE"), Column("HOST", most=30), Column("PID", right=True),
    Column("STARTED"), Column("VERSION"),
)  # fmt: skip


@click.pass_context
def _run(context: click.Context, /, **options: Any) -> None:
    if context.invoked_subcommand is None:
        assert run.callback is not None
        run.callback(**options)


coordinator: Final = LazyGroup(
    "coordinator", table=SUBCOMMANDS, params=run.params, callback=_run, invoke_without_command=True,
    help=run.help, short_help="Run a coordinator (one of several leads), or see who leads.",
)  # fmt: skip


@click.command(short_help="Show who leads, since when, and how old nodes' leases are.")
@json_option
def status(as_json: bool) -> None:
    """Show who leads, since when, which coordinators stand by, and how old nodes' leases are.

    A node that has not renewed for 20 s (fast: 5 s) has frozen its jobs; after 30 s (8 s) it is lost, and they run
    elsewhere. One whose worker was asked to end (restart) has 300 s and 330 s. An unfenced one never freezes, and only
    `shunter node lost` gives it up.

    \b
    Example:  shunter coordinator status
    """
    with connect() as client:
        view, nodes, url = client.cluster(), client.nodes(), client.url
    if as_json:
        print_json({"cluster": view, "nodes": nodes})
        return
    _say_who_leads(view, url)
    if nodes:
        click.echo()
        click.echo(render(COLUMNS, [_row(one) for one in nodes], width=terminal_width()))


def _say_who_leads(view: ClusterView, url: str) -> None:
    leads = view.leader or "nobody: nothing is placed now"
    since_s, failing = view.leads_since_s, view.failing
    for_s = "" if since_s is None else f"{clock(since_s)}, {format_duration(max(time.time() - since_s, 0.0))} ago"
    said = "" if failing is None else render_failure(failing, clock(failing.since_s))
    gateway = f"{url}, {view.version}"
    rows = [("leader", leads), ("epoch", str(view.epoch)), ("since", for_s), ("scheduler", said), ("gateway", gateway)]
    click.echo(pairs(rows))
    if view.coordinators:
        click.echo()
        rows_of = [_coordinator(one) for one in sorted(view.coordinators, key=lambda one: not one.leads)]
        click.echo(render(COORDINATORS, rows_of, width=terminal_width()))


def _coordinator(view: CoordinatorView) -> list[str | Cell]:
    role = Cell("leads", "green") if view.leads else Cell("stands by")
    return [view.name, role, view.host, str(view.pid), clock(view.since_s), view.version]


def _row(view: NodeView) -> list[str | Cell]:
    colour = {"ready": "green", "cordoned": "yellow", "silent": "red", "lost": "red"}.get(view.state)
    seen = f"{format_duration(view.silent_s)} ago"
    return [view.node.name, Cell(view.state, colour), view.lease or "none", seen, str(len(view.jobs))]
