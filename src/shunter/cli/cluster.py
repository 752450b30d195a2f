"""`shunter cluster`."""

from __future__ import annotations

import click

from shunter.cli.connect import connect
from shunter.cli.options import json_option
from shunter.cli.output import clock, print_json
from shunter.cli.table import pairs
from shunter.domain.reason import render_failure


@click.command(short_help="Show the cluster in one look.")
@json_option
def cluster(as_json: bool) -> None:
    """Show the cluster: who leads, and how many nodes, GPUs and jobs there are.

    \b
    Example:  shunter cluster
    """
    with connect() as client:
        view = client.cluster()
        url = client.url
    if as_json:
        print_json(view)
        return
    failing = view.failing
    click.echo(
        pairs(
            [
                ("cluster", view.cluster),
                ("url", url),
                ("version", view.version),
                ("leader", f"{view.leader} (epoch {view.epoch})" if view.leader else "none: nothing is placed now"),
                ("scheduler", "" if failing is None else render_failure(failing, clock(failing.since_s))),
                ("nodes", str(view.nodes)),
                ("GPUs", f"{view.gpus}, {view.free_gpus} free"),
                ("active jobs", str(view.active_jobs)),
                ("Redis", view.redis_version),
            ]
        )
    )
