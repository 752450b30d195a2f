"""`shunter events`."""

from __future__ import annotations

import click

from shunter.cli.connect import connect
from shunter.cli.options import job_id
from shunter.cli.output import clock, print_json_line
from shunter.cli.table import printable
from shunter.domain.report import EventView


@click.command(short_help="Print or follow every change of jobs and nodes.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--after", metavar="ID", help="Begin after this event (default: all kept; with --follow: now).")
@click.option("--job", "jobs", type=job_id, multiple=True, metavar="ID", help="Only of this job (repeatable).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def events(follow: bool, after: str | None, jobs: tuple[int, ...], as_json: bool) -> None:
    """Print every change of jobs, nodes and leaders: when, what, and by whom.

    \b
    Examples:
      shunter events --job 12
      shunter events --follow --json | jq 'select(.kind == "exited")'
    """
    with connect() as client:
        for event in client.events(after=after, jobs=jobs, follow=follow):
            if as_json:
                print_json_line(event)
            else:
                click.echo(_line(event))


def _line(event: EventView) -> str:
    subject = f"job {event.job}" if event.job is not None else event.node
    return f"{clock(event.at_s)}  {printable(subject or 'cluster'):<12}  {printable(event.text or event.kind)}"
