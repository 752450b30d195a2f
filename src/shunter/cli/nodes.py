"""`shunter nodes`, and `shunter node` with its subcommands."""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import Final

import click

from shunter.cli.connect import connect
from shunter.cli.lazy import Lazy, LazyGroup
from shunter.cli.options import duration, json_option
from shunter.cli.output import print_json
from shunter.cli.table import Cell, Column, render, terminal_width
from shunter.domain.duration import format_duration, parse_duration
from shunter.domain.lease import TERMS
from shunter.domain.report import NodeView

LOOK_EVERY_S: Final = 1.0

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
        if versions := _versions(views):
            click.echo(versions)
    else:
        click.echo("no nodes; `shunter node start` adds one")


def _row(view: NodeView) -> list[str | Cell]:
    node = view.node
    models = Counter(gpu.model for gpu in node.gpus)
    sick = [f"GPU {gpu.index}: {gpu.problem or 'unhealthy'}" for gpu in node.gpus if not gpu.healthy]
    return [
        node.name,
        Cell(view.state, {"ready": "green", "cordoned": "yellow", "silent": "red", "lost": "red"}.get(view.state)),
        view.pool,
        str(len(node.gpus)),
        str(view.free_gpus),
        ", ".join(models),
        str(node.cpus),
        f"{node.memory_mib / 1024:.0f}",
        format_duration(view.silent_s),
        ",".join(map(str, view.jobs)),
        "; ".join([*_silence(view), *([node.cordoned] if node.cordoned else []), *sick]),
    ]


def _silence(view: NodeView) -> list[str]:
    if view.state == "lost":
        return [] if view.jobs else ["given up; comes back when it joins, `shunter node forget` removes it"]
    terms = TERMS.get(view.lease)
    if view.state != "silent":
        return []
    if terms is None:
        return ["does not renew; its jobs may run on"]
    frozen = "its jobs are frozen" if view.silent_s > terms.fence_after_s else f"freezes at {terms.fence_after_s:g} s"
    return [f"does not renew; {frozen}, lost at {terms.requeue_after_s:g} s"]


def _versions(views: list[NodeView]) -> str:
    """Return a line if nodes' workers are of different versions, as in the middle of an upgrade."""
    count = Counter(view.node.version for view in views if view.state != "lost")
    if len(count) < 2:
        return ""
    return "versions: " + ", ".join(f"{number} of {version or 'unknown'}" for version, number in count.most_common())


def _wide_row(view: NodeView) -> list[str | Cell]:
    node, row = view.node, _row(view)
    labels = ",".join(f"{name}={value}" for name, value in node.labels.items())
    islands = [str(count) for _, count in sorted(Counter(gpu.island for gpu in node.gpus).items())]
    return [*row[:3], node.rack, labels, "+".join(islands), *row[3:]]


SUBCOMMANDS: Final = {
    "cordon": Lazy("shunter.cli.nodes:cordon", "Give a node no new work."),
    "uncordon": Lazy("shunter.cli.nodes:uncordon", "Let a node take work again."),
    "drain": Lazy("shunter.cli.nodes:drain", "Give a node no new work, and wait until it is empty."),
    "resume": Lazy("shunter.cli.nodes:uncordon", "The same as uncordon."),
    "lost": Lazy("shunter.cli.nodes:lost", "Have the jobs of a node that is gone run elsewhere."),
    "forget": Lazy("shunter.cli.nodes:forget", "Remove a node that is lost for good."),
    "start": Lazy("shunter.agent.command:start", "Run a node: offer this machine's GPUs."),
}


@click.command(cls=LazyGroup, table=SUBCOMMANDS, short_help="Cordon, drain or give up a node, or run one here.")
def node() -> None:
    """Cordon, drain or give up a node, or run one on this machine.

    \b
    Examples:
      shunter node cordon n1 --reason 'fan noise'
      shunter node drain n1 --reason 'new driver' && ssh n1 reboot
      shunter node resume n1
      shunter node lost n1 --reason 'its power supply burnt'
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
    Examples:
      shunter node uncordon n1
      shunter node resume n1
    """
    with connect() as client:
        was = any(one.node.cordoned for one in client.nodes() if one.node.name == name)
        view = client.uncordon(name)
    click.echo(f"uncordoned {view.node.name}" if was else f"{view.node.name} was not cordoned")


@click.command(short_help="Remove a node that is lost for good.")
@click.argument("name")
def forget(name: str) -> None:
    """Remove a node that is lost from all lists, with its cordon. If its worker starts again, it joins as a new one.

    \b
    Example:  shunter node forget n1
    """
    with connect() as client:
        client.forget(name)
    click.echo(f"forgot {name}")


@click.command(short_help="Give a node no new work, and wait until it is empty.")
@click.argument("name")
@click.option("--reason", default="", metavar="TEXT", help="Why; `shunter nodes` shows it.")
@click.option(
    "--timeout", type=duration("timeout"), metavar="10m", help="Wait no longer (exit 124); it stays cordoned."
)
def drain(name: str, reason: str, timeout: str | None) -> None:
    """Give a node no new work, and wait until what runs there has ended. Exit code 124: it had not in time.

    \b
    Example:  shunter node drain n1 --reason 'new driver'
    """
    within_s = math.inf if timeout is None else parse_duration(timeout, field="timeout")
    until_s = time.monotonic() + within_s
    told: tuple[int, ...] = ()
    with connect() as client:
        view = client.cordon(name, reason)
        while view.jobs:
            if view.jobs != told:
                told = view.jobs
                click.echo(f"{name} still runs {', '.join(f'job {id}' for id in told)}", err=True)
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                click.echo(f"shunter: {name} is not empty yet; it stays cordoned", err=True)
                raise click.exceptions.Exit(124)
            time.sleep(min(LOOK_EVERY_S, left_s))
            found = next((one for one in client.nodes() if one.node.name == name), None)
            if found is None:
                break  # it has left
            view = found
    click.echo(f"drained {name}")


@click.command(short_help="Have the jobs of a node that is gone run elsewhere.")
@click.argument("name")
@click.option("--reason", default="", metavar="TEXT", help="Why; jobs and `shunter events` show it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def lost(name: str, reason: str, yes: bool) -> None:
    """Have the jobs of a node that is gone run elsewhere at once.

    It is your word that nothing runs there any more: if something does, it runs twice. A node that renews its lease
    needs this only if it is unfenced (alone in its cluster, or started with --fence operator); the jobs of any other
    run elsewhere by themselves, 30 s after it fell silent. It counts as a retry of each: jobs without one left fail.

    \b
    Example:  shunter node lost n1 --reason 'its power supply burnt'
    """
    with connect() as client:
        view = next((one for one in client.nodes() if one.node.name == name), None)
        if view is not None and not yes:
            state = (
                f"it renewed its lease {format_duration(view.silent_s)} ago" if view.state != "lost" else "it is lost"
            )
            click.confirm(
                f"{name} has {len(view.jobs)} jobs, and {state}. Does nothing run there any more?", abort=True
            )
        client.lose(name, reason)
    jobs = ", ".join(f"job {id}" for id in view.jobs) if view else ""
    click.echo(f"{name} is lost{f'; taken off it: {jobs}' if jobs else ''}")
