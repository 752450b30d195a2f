"""`shunter cluster`, and `shunter rejoin` for a cluster whose data set is lost."""

from __future__ import annotations

from pathlib import Path

import click

from shunter.cli.connect import connect
from shunter.cli.options import json_option
from shunter.cli.output import clock, print_json
from shunter.cli.table import pairs
from shunter.domain.reason import render_failure
from shunter.errors import NotFound


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
                ("nodes", f"{view.nodes}, and {view.lost_nodes} lost" if view.lost_nodes else str(view.nodes)),
                ("GPUs", f"{view.gpus}, {view.free_gpus} free"),
                ("active jobs", str(view.active_jobs)),
                ("Redis", view.redis_version),
                ("data set", view.identity),
            ]
        )
    )


@click.command(short_help="Give up data that Redis has lost, and go on with what it holds now.")
@click.option("--home", type=click.Path(file_okay=False), help="State folder (default: SHUNTER_HOME).")
@click.option("--yes", is_flag=True, help="Do not ask.")
def rejoin(home: str | None, yes: bool) -> None:
    """Give up the data set that this machine's Shunter belongs to, and belong to the one that Redis holds next.

    For when Redis came back empty, or with other data, and the old data cannot be brought back: until then nothing is
    started, ended or accepted, and running jobs freeze. Afterwards jobs that run here and that Redis does not know are
    ended. Run it on every machine; what runs there notices by itself.

    \b
    Example:  shunter rejoin --home /var/lib/shunter
    """
    from shunter.runtime.paths import default_home
    from shunter.store import identity

    folder = Path(home).expanduser().absolute() if home else default_home()
    records = identity.records(folder)
    if not records:
        raise NotFound(f"rejoin: nothing in {folder} belongs to a data set", fix="give the --home of the servers")
    for path in records:
        click.echo(f"{path.relative_to(folder)}: {identity.read(path)}")
    if not yes:
        click.confirm("Give it up? Jobs that run here and that Redis does not know will be ended", abort=True)
    for path in records:
        path.unlink(missing_ok=True)
    click.echo("given up; the data set that Redis holds is taken as soon as it is met")
