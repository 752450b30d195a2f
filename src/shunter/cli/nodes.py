"""`shunter nodes`, and `shunter node` with its subcommands."""

from __future__ import annotations

from collections import Counter
from typing import Final

import click

from shunter.cli.connect import connect
from shunter.cli.lazy import Lazy, LazyGroup
from shunter.cli.options import json_option
from shunter.cli.output import print_json
from shunter.cli.table import Cell, Column, render, terminal_width
from shunter.domain.duration import format_duration
from shunter.domain.report import NodeView

COLUMNS: Final = (
    Column("NAME", most=30),
    Column("STATE"),
    Column("POOL", most=16),
    Column("GPUS", right=True),
    Column("FREE", right=True),
    Column("MODEL", most=30),
    Column("CPUS", right=True),
    Column("GIB", right=True),
    Column("SEEN", right=True),
    Column("JOBS", most=30),
    Column("NOTE"),
)
WIDE: Final = (
    *COLUMNS[:3],
    Column("RACK", most=16),
    Column("LABELS", most=60),
    Column("ISLANDS", most=24),
    *COLUMNS[3:],
)


@click.command(short_help="List nodes and their GPUs.")
@click.option("--wide", "-w", is_flag=True, help="Racks, labels and NVLink islands too.")
@json_option
def nodes(wide: bool, as_json: bool) -> None:
    """List nodes. SEEN is how long ago a node last reported. FREE counts shares of GPUs too.

    \b
    Examples:
      shunter nodes
      shunter nodes --wide
    """
    with connect() as client:
        views = client.nodes()
    if as_json:
        print_json(views)
    elif views:
        columns, row = (WIDE, _wide_row) if wide else (COLUMNS, _row)
        click.echo(render(columns, [row(view) for view in views], width=terminal_width()))
    else:
        click.echo("no nodes; `shunter node start` adds one")


def _row(view: NodeView) -> list[str | Cell]:
    node = view.node
    models = Counter(gpu.model for gpu in node.gpus)
    sick = [f"GPU {gpu.index}: {gpu.problem or 'unhealthy'}" for gpu in node.gpus if not gpu.healthy]
    return [
        node.name,
        Cell(view.state, {"ready": "green", "cordoned": "yellow", "silent": "red"}.get(view.state)),
        view.pool,
        str(len(node.gpus)),
        str(view.free_gpus),
        ", ".join(models),
        str(node.cpus),
        f"{node.memory_mib / 1024:.0f}",
        format_duration(view.silent_s),
        ",".join(map(str, view.jobs)),
        "; ".join([*([node.cordoned] if node.cordoned else []), *sick]),
    ]


def _wide_row(view: NodeView) -> list[str | Cell]:
    node, row = view.node, _row(view)
    labels = ",".join(f"{name}={value}" for name, value in node.labels.items())
    islands = [str(count) for _, count in sorted(Counter(gpu.island for gpu in node.gpus).items())]
    return [*row[:3], node.rack, labels, "+".join(islands), *row[3:]]


SUBCOMMANDS: Final = {
    "cordon": Lazy("shunter.cli.nodes:cordon", "Give a node no new work."),
    "uncordon": Lazy("shunter.cli.nodes:uncordon", "Let a node take work again."),
    "start": Lazy("shunter.agent.command:start", "Run a node: offer this machine's GPUs."),
}


@click.command(cls=LazyGroup, table=SUBCOMMANDS, short_help="Cordon or uncordon a node, or run one here.")
def node() -> None:
    """Cordon or uncordon a node, or run one on this machine.

    \b
    Examples:
      shunter node cordon n1 --reason 'fan noise'
      shunter node uncordon n1
      shunter node start --gpus simulated:8
    """


@click.command(short_help="Give a node no new work.")
@click.argument("name")
@click.option("--reason", default="", metavar="TEXT", help="Why; `shunter nodes` shows it.")
def cordon(name: str, reason: str) -> None:
    """Give a node no new work. What runs there goes on.

    \b
    Example:  shunter node cordon n1 --reason 'fan noise'
    """
    with connect() as client:
        view = client.cordon(name, reason)
    running = f"; it still runs {', '.join(f'job {id}' for id in view.jobs)}" if view.jobs else ""
    click.echo(f"cordoned {view.node.name}{running}")


@click.command(short_help="Let a node take work again.")
@click.argument("name")
def uncordon(name: str) -> None:
    """Let a node take work again.

    \b
    Example:  shunter node uncordon n1
    """
    with connect() as client:
        view = client.uncordon(name)
    click.echo(f"uncordoned {view.node.name}")
