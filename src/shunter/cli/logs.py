"""`shunter logs`."""

from __future__ import annotations

import click

from shunter.cli.connect import connect
from shunter.cli.options import job_id
from shunter.cli.output import write


@click.command(short_help="Print or follow what a job prints.")
@click.argument("id", type=job_id)
@click.option("-f", "--follow", is_flag=True, help="Read along until the job has ended.")
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="Of this attempt (default: the last).")
@click.option("--stderr", is_flag=True, help="The log that --split-stderr made.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Begin N lines before the end.")
def logs(id: int, follow: bool, attempt: int | None, stderr: bool, tail: int | None) -> None:
    """Print what a job has printed so far.

    \b
    Examples:
      shunter logs 12
      shunter logs -f --tail 20 12
    """
    with connect() as client:
        stream = client.logs(id, follow=follow, attempt=attempt, stream="stderr" if stderr else "output", tail=tail)
        for text in stream:
            write(text)
