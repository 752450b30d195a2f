"""`shunter cancel`."""

from __future__ import annotations

import click

from shunter.cli.connect import connect
from shunter.cli.options import job_id
from shunter.cli.output import warn
from shunter.errors import NotFound


@click.command(short_help="End jobs, waiting or running.")
@click.argument("ids", type=job_id, nargs=-1, required=True, metavar="ID...")
def cancel(ids: tuple[int, ...]) -> None:
    """End jobs. A waiting one ends at once; a running one gets SIGTERM, then its grace period.

    \b
    Example:  shunter cancel 12 13
    """
    with connect() as client:
        result = client.cancel(*ids)
    for id in result.cancelled:
        click.echo(f"cancelled job {id}")
    if not result.confirmed:
        warn("no replica of Redis has confirmed it yet: a take-over in this moment may forget it; look again")
    for id in result.already_ended:
        click.echo(f"job {id} had already ended")
    if result.unknown:
        unknown = ", ".join(map(str, result.unknown))
        raise NotFound(f"no such job: {unknown}", field="id", fix="`shunter queue --all` lists them")
